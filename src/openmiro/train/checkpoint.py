"""Checkpoints: a folder that is either whole and proven so, or not there.

`checkpoints/step-000500/` is written under a temporary name, flushed to disk, given its COMPLETE file last (the digests
of all others), and renamed. Loading checks every digest; where the newest folder is damaged the one before it is taken,
with a warning, and training never starts from scratch in silence. Everything is safetensors and JSON.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openmiro.core.artifact import naming_full_disk, read_json, sha256_file, write_json, write_text
from openmiro.core.config import Config
from openmiro.core.errors import CheckpointError, DamagedFileError, DataError
from openmiro.train.trees import copy_to_cpu, flatten, unflatten

CHECKPOINTS = "checkpoints"
COMPLETE = "COMPLETE"
LATEST = "latest"
_TEMPORARY = ".tmp-"
_STEP = re.compile(r"step-(\d{6,})")


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over."""


class Progress(Config):
    """Where a run was, and what must not change while it goes on.

    Attributes:
        step, images: finished so far.
        recipe: fingerprint of the settings that decide the computation.
        data: fingerprint of the training data.
        precision: "fp32" or "bf16", as decided when the run began.
        world_size: number of processes.
    """

    step: int
    images: int
    recipe: str
    data: str
    precision: str
    world_size: int


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on.

    Attributes:
        progress: where it was.
        denoiser, ema: state dicts.
        optimizer: state dict, a tree of tensors and numbers.
    """

    progress: Progress
    denoiser: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]


WriteExtras = Callable[[Path], None]
"""Writes what sampling needs besides the weights (codec, text encoder, levels, ...) into a folder."""


def save_checkpoint(run: Path, checkpoint: Checkpoint, write_extras: WriteExtras, keep: int) -> Path:
    """Writes a checkpoint into the run folder, points `latest` at it and removes the oldest beyond `keep`.

    Raises:
        DiskFullError: no space is left; earlier checkpoints are intact.
    """
    final = checkpoint_folder(run, checkpoint.progress.step)
    if not _is_intact(final):
        temporary = final.with_name(f"{_TEMPORARY}{final.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            with naming_full_disk(final):
                _write(temporary, checkpoint, write_extras)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        shutil.rmtree(final, ignore_errors=True)  # damaged: an intact one is not written again
        temporary.rename(final)
        _sync_folder(final.parent)
    write_text(run / LATEST, f"{CHECKPOINTS}/{final.name}\n")
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return final


def load_latest(run: Path) -> Checkpoint | None:
    """The newest intact checkpoint of a run, or None where the run has none at all.

    Raises:
        CheckpointError: there are checkpoints, and every one is damaged.
    """
    for leftover in (run / CHECKPOINTS).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = list_checkpoints(run)
    for folder in reversed(found):
        try:
            return load_checkpoint(folder)
        except DataError as error:
            warnings.warn(
                f"checkpoint {folder} cannot be used: {error} Trying the one before it.",
                CheckpointWarning,
                stacklevel=2,
            )
    if found:
        raise CheckpointError(
            f"every checkpoint in {run / CHECKPOINTS} is damaged. Restore one, or delete the folder to start again."
        )
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads one checkpoint after checking every file.

    Raises:
        DamagedFileError: a file is missing, altered or not of its format.
    """
    check_checkpoint(folder)
    state = read_json(folder / "state.json")
    return Checkpoint(
        progress=Progress.parse(state["progress"], str(folder / "state.json")),
        denoiser=_load(folder / "denoiser.safetensors"),
        ema=_load(folder / "ema.safetensors"),
        optimizer=unflatten(state["optimizer"], _load(folder / "optimizer.safetensors")),
    )


def check_checkpoint(folder: Path) -> None:
    """Compares every file of a checkpoint with its digest.

    Raises:
        DamagedFileError: a file is missing or altered; the message names it.
    """
    if not (folder / COMPLETE).is_file():
        raise DamagedFileError(f"{folder} was not finished (it has no {COMPLETE} file).")
    digests = read_json(folder / COMPLETE)
    if not isinstance(digests, dict) or not digests:
        raise DamagedFileError(f"{folder / COMPLETE} is damaged.")
    # Only files found by looking are opened, so that no name in COMPLETE can lead out of the folder.
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name, digest in digests.items():
        path = folder / name
        if name not in present:
            raise DamagedFileError(f"{path} is missing.")
        if sha256_file(path) != digest:
            raise DamagedFileError(f"{path} is damaged: its checksum differs from {COMPLETE}.")


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first, damaged ones included."""
    folders = [p for p in (run / CHECKPOINTS).glob("step-*") if p.is_dir() and _STEP.fullmatch(p.name)]
    return sorted(folders, key=lambda p: int(p.name.removeprefix("step-")))


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:06d}"


def _is_intact(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        check_checkpoint(folder)
    except DataError:
        return False
    return True


def _write(folder: Path, checkpoint: Checkpoint, write_extras: WriteExtras) -> None:
    scalars, tensors = flatten(checkpoint.optimizer)
    _save(folder / "denoiser.safetensors", checkpoint.denoiser)
    _save(folder / "ema.safetensors", checkpoint.ema)
    _save(folder / "optimizer.safetensors", tensors)
    write_json(folder / "state.json", {"progress": checkpoint.progress.dump(), "optimizer": scalars})
    write_extras(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for path in files:
        _sync(path)
    write_json(folder / COMPLETE, {p.relative_to(folder).as_posix(): sha256_file(p) for p in files})
    for inner in sorted({p.parent for p in files} | {folder}):
        _sync_folder(inner)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(copy_to_cpu(tensors), path)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path} is not a whole safetensors file: {error}.") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # other systems cannot open a folder; their rename is as durable as it gets
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
