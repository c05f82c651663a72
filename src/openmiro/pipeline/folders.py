"""Folders that hold a pipeline, written and read.

Export folder (diffusers' layout):

    model_index.json                       class, components, resolution, rewards, presets
    transformer/config.json                settings of the denoiser
    transformer/diffusion_pytorch_model.safetensors
    scheduler/scheduler_config.json        flow matching, for tools that look for it
    reward_levels.json                     level tables; absent where they are not known
    codec/  text_encoder/                  as their `save` writes them
    README.md                              model card

A training checkpoint holds the same parts under the names that training gives them; its `model.json` is a `Model`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openmiro.codecs import load_codec, load_text_encoder
from openmiro.codecs.files import load_tensors, save_tensors
from openmiro.core.artifact import read_json, sha256_file, write_json, write_text
from openmiro.core.config import Config
from openmiro.core.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from openmiro.core.presets import SamplingSettings
from openmiro.core.registry import Registry
from openmiro.core.types import Denoiser, ImageCodec, RewardSet, TextEncoder
from openmiro.flow.solvers import SOLVERS
from openmiro.models.factory import DENOISERS, build_denoiser
from openmiro.pipeline.card import model_card
from openmiro.rewards.levels import LevelTables

if TYPE_CHECKING:
    from openmiro.pipeline.pipeline import MiroPipeline

INDEX_FILE = "model_index.json"
MODEL_FILE = "model.json"
COMPLETE_FILE = "COMPLETE"
LEVELS_FILE = "reward_levels.json"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
_AVERAGED, _LAST = "ema.safetensors", "denoiser.safetensors"
_CHECKPOINT = re.compile(r"step-\d+")
_CLASS_NAME = "MiroPipeline"


class Model(Config):
    """What weights belong to.

    Attributes:
        denoiser: its settings, `kind` among them.
        rewards: in the order of the R axis.
        resolution: side of the pictures in pixels.
        sampling: presets.
    """

    denoiser: dict[str, Any]
    rewards: RewardSet
    resolution: int
    sampling: SamplingSettings = SamplingSettings()


@dataclass(frozen=True)
class Parts:
    """Everything of a pipeline, loaded."""

    model: Model
    denoiser: Denoiser
    codec: ImageCodec
    text_encoder: TextEncoder
    levels: LevelTables | None


def read_parts(path: Path) -> Parts:
    """Reads an export folder, a checkpoint, or the latest checkpoint of a run folder.

    Raises:
        CheckpointError: the folder is none of these, incomplete, damaged, or its parts do not fit.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder. Give a run folder, a checkpoint folder or an export folder.")
    try:
        if (path / INDEX_FILE).is_file():
            return _read_export(path)
        if (path / MODEL_FILE).is_file() or _CHECKPOINT.fullmatch(path.name):
            return _read_checkpoint(path)
        return _read_checkpoint(_latest(path))
    except (DataError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error


def save_export(pipeline: MiroPipeline, folder: Path) -> Path:
    """Writes an export folder; `model_index.json` comes last, so that a folder without it is unfinished.

    Raises:
        CheckpointError: the folder holds files of something else.
        DiskFullError: no space is left.
    """
    denoiser = pipeline.denoiser
    config = getattr(denoiser, "config", None)
    if not isinstance(denoiser, torch.nn.Module) or not isinstance(config, Config):
        raise CheckpointError("only a denoiser that is a module with a config can be saved")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX_FILE).is_file():
        raise CheckpointError(f"{folder} holds other files. Choose a new folder, or an export folder to replace.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX_FILE).unlink(missing_ok=True)
    save_tensors(denoiser.state_dict(), folder / WEIGHTS)
    write_json(folder / "transformer" / "config.json", {"_class_name": type(denoiser).__name__, **config.dump()})
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    pipeline.codec.save(folder / "codec")
    pipeline.text_encoder.save(folder / "text_encoder")
    (folder / LEVELS_FILE).unlink(missing_ok=True)
    if pipeline.levels is not None:
        pipeline.levels.save(folder / LEVELS_FILE)
    write_text(folder / "README.md", model_card(pipeline))
    write_json(folder / INDEX_FILE, _index(pipeline))
    return folder


def _index(pipeline: MiroPipeline) -> dict[str, Any]:
    return {
        "_class_name": _CLASS_NAME,
        "_openmiro_version": version("openmiro"),
        "transformer": ["openmiro", type(pipeline.denoiser).__name__],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "codec": ["openmiro", type(pipeline.codec).__name__],
        "text_encoder": ["openmiro", type(pipeline.text_encoder).__name__],
        "resolution": pipeline.resolution,
        "rewards": pipeline.rewards.dump(),
        "sampling": pipeline.sampling.dump(),
    }


def _read_export(folder: Path) -> Parts:
    index = _mapping(folder / INDEX_FILE)
    if index.get("_class_name") != _CLASS_NAME:
        raise CheckpointError(f"{folder} holds a {index.get('_class_name')}, not a {_CLASS_NAME}")
    settings = _mapping(folder / "transformer" / "config.json")
    settings.pop("_class_name", None)
    values = {key: index[key] for key in ("rewards", "resolution", "sampling") if key in index}
    model = Model.parse({"denoiser": settings, **values}, str(folder / INDEX_FILE))
    return _assemble(folder, model, folder / WEIGHTS, folder / LEVELS_FILE)


def _read_checkpoint(folder: Path) -> Parts:
    if not (folder / COMPLETE_FILE).is_file():
        raise CheckpointError(f"{folder} was not finished (it has no {COMPLETE_FILE} file). Use an earlier checkpoint.")
    digests = _mapping(folder / COMPLETE_FILE)
    weights = folder / (_AVERAGED if _AVERAGED in digests else _LAST)
    _check_digests(folder, digests, weights.name)
    model = Model.parse(_mapping(folder / MODEL_FILE), str(folder / MODEL_FILE))
    return _assemble(folder, model, weights, folder / "levels.json")


def _check_digests(folder: Path, digests: Mapping[str, str], weights: str) -> None:
    """Compares the files that sampling reads with the digests that training wrote down."""
    unused = {"optimizer.safetensors", _AVERAGED, _LAST} - {weights}
    for name, digest in digests.items():
        if name in unused:
            continue
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing. Use an earlier checkpoint.")
        if sha256_file(path) != digest:
            raise CheckpointError(f"{path} is damaged: its checksum differs from {COMPLETE_FILE}.")


def _assemble(folder: Path, model: Model, weights: Path, levels: Path) -> Parts:
    _require_registered(DENOISERS, str(model.denoiser.get("kind")))
    for name in model.sampling.names:
        _require_registered(SOLVERS, model.sampling.preset(name).solver)
    return Parts(
        model=model,
        denoiser=_load_denoiser(model.denoiser, weights),
        codec=load_codec(_subfolder(folder, "codec")),
        text_encoder=load_text_encoder(_subfolder(folder, "text_encoder")),
        levels=LevelTables.load(levels) if levels.is_file() else None,
    )


def _require_registered(registry: Registry, name: str) -> None:
    # A dotted path is for people to type; in a folder from elsewhere it would choose what gets imported here.
    if name not in registry.names():
        raise UnknownNameError(registry.kind, name, registry.names())


def _load_denoiser(settings: Mapping[str, Any], path: Path) -> Denoiser:
    state = load_tensors(path)
    with torch.random.fork_rng(devices=[]):
        denoiser = build_denoiser(settings)
    assert isinstance(denoiser, torch.nn.Module)
    check_state(denoiser.state_dict(), state, path)
    denoiser.load_state_dict(state)
    return denoiser.eval().requires_grad_(False)


def check_state(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Compares names and shapes of weights with what the denoiser has.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape; the message names the first few.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not part of this denoiser" for name in found if name not in expected]
    problems += [
        f"{name} has the shape {list(found[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} does not fit its settings: {'; '.join(problems[:3])}{more}")


def _latest(run: Path) -> Path:
    """The newest finished checkpoint of a run: the one that `latest` names, or else the one with the highest step."""
    pointer = run / "latest"
    if pointer.is_file():
        name = pointer.read_text(encoding="utf-8").strip().split("/")[-1]
        if _CHECKPOINT.fullmatch(name) and (run / "checkpoints" / name / COMPLETE_FILE).is_file():
            return run / "checkpoints" / name
    found = [p for p in (run / "checkpoints").glob("step-*") if _CHECKPOINT.fullmatch(p.name)]
    finished = [p for p in found if (p / COMPLETE_FILE).is_file()]
    if finished:
        return max(finished, key=lambda p: int(p.name.removeprefix("step-")))
    if (run / "checkpoints").is_dir():
        raise CheckpointError(f"the run {run} has no finished checkpoint yet")
    raise CheckpointError(
        f"{run} is neither a run folder (checkpoints/), nor a checkpoint ({MODEL_FILE}), nor an export folder"
        f" ({INDEX_FILE})"
    )


def _subfolder(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise CheckpointError(f"{folder / name} is missing")
    return folder / name


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold an object")
    return value
