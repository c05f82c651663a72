"""The run folder: whose it is, what it ran on, and whether it may be gone on with."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from openmiro.core.artifact import read_json, write_json, write_text
from openmiro.core.config import Config, fingerprint, read_yaml
from openmiro.core.errors import CheckpointError, ProvenanceError
from openmiro.train.checkpoint import CHECKPOINTS
from openmiro.train.precision import Precision
from openmiro.train.recipe import Recipe

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "env.json"
LOCK_FILE = ".lock"
_FREE_TO_CHANGE = (
    "checkpoint",
    "compile",
    "data.codec",
    "data.dataset",
    "data.text_encoder",
    "gradient_accumulation",
    "log",
    "num_data_workers",
    "samples",
    "sampling",
    "threads",
)
"""Keys that watch the computation, cut it up otherwise, or say where the data lies: its content is compared instead."""


class Environment(Config):
    """What a run began on. Precision and threads are kept when it goes on, because they decide the last bits.

    A recipe that asks for other threads later changes nothing: start a new run for that.

    Attributes:
        data: fingerprint of the training data.
        dataset: its folder.
        precision, threads: as decided at the beginning.
        device: "cpu" or the accelerator's name.
        versions: of Python and torch.
    """

    data: str
    dataset: str
    precision: Precision
    threads: int
    device: str
    versions: dict[str, str]


def identity(recipe: Recipe) -> dict[str, Any]:
    """The settings that decide what a run computes, by dotted key."""
    return {key: value for key, value in _flat(recipe.dump()).items() if not _is_free(key)}


def recipe_fingerprint(recipe: Recipe) -> str:
    """Equal exactly where two recipes compute the same run."""
    return fingerprint(identity(recipe))


def begin(data: str, recipe: Recipe, precision: Precision, device: torch.device) -> Environment:
    """The environment of a run that begins now. Its number of threads decides the order of additions."""
    return Environment(
        data=data,
        dataset=str(recipe.data.dataset),
        precision=precision,
        threads=recipe.threads or torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
    )


def claim(run: Path, recipe: Recipe, environment: Environment) -> None:
    """Writes the settings of a run into its folder."""
    write_text(run / CONFIG_FILE, recipe.to_yaml())
    write_json(run / ENVIRONMENT_FILE, environment.dump())


def read_environment(run: Path) -> Environment | None:
    """What a run began on; None where it has not begun."""
    path = run / ENVIRONMENT_FILE
    return Environment.parse(read_json(path), str(path)) if path.exists() else None


@contextmanager
def sole_writer(run: Path) -> Iterator[None]:
    """Holds the run folder for this process, so that two trainings never mix in it; a killed one lets go of it.

    Raises:
        CheckpointError: another process is training there.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK_FILE).open("ab") as lock:
        if not _lock(lock.fileno()):
            raise CheckpointError(
                f"another process is training in {run} right now. Wait for it, stop it, or choose another folder."
            )
        yield


def check_same_recipe(run: Path, recipe: Recipe) -> None:
    """Verifies that a run folder is new or belongs to this recipe.

    Raises:
        CheckpointError: it belongs to another recipe (the message names the differing keys) or is no run folder.
    """
    if run.exists() and not run.is_dir():
        raise CheckpointError(f"{run} is a file. Give a folder for the run with --out.")
    if (run / "dataset.json").exists():
        raise CheckpointError(f"{run} is a dataset. Give another folder for the run with --out.")
    # A run that lost its config.yaml still has the recipe in every checkpoint.
    candidates = [run / CONFIG_FILE, *sorted((run / CHECKPOINTS).glob("step-*/recipe.yaml"))]
    path = next((p for p in candidates if p.exists()), None)
    if path is None:
        return
    here = identity(Recipe.parse(read_yaml(path.read_text(encoding="utf-8"), str(path)), str(path)))
    asked = identity(recipe)
    differing = [
        f"{key} ({here.get(key)!r} there, {asked.get(key)!r} asked for)"
        for key in sorted({*here, *asked})
        if here.get(key) != asked.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"the run folder {run} belongs to another recipe. It differs in: {'; '.join(differing)}."
            " Choose another folder with --out, or delete this one."
        )


def check_same_data(run: Path, began: str, data: str, dataset: str = "") -> None:
    """Verifies that the training data is what the run began with, by fingerprint.

    Raises:
        ProvenanceError: the dataset is another one or has changed since.
    """
    if began != data:
        raise ProvenanceError(
            f"the run folder {run} was begun on other training data ({dataset or 'a dataset'}, fingerprint {began}; now"
            f" {data}). Choose another folder with --out, or delete this one."
        )


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # a system without such locks: nobody is kept out
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        flat.update(_flat(value, f"{path}.") if isinstance(value, dict) else {path: value})
    return flat


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE_TO_CHANGE)
