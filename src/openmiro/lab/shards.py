"""Writes the lab's pictures and captions as ordinary webdataset tars."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from openmiro.core.artifact import (
    atomic_path,
    commit,
    is_committed,
    read_json,
    record_path,
    remove_leftovers,
    write_json,
)
from openmiro.core.config import Config
from openmiro.core.errors import ConfigError, ProvenanceError
from openmiro.core.progress import progress
from openmiro.core.seeds import numpy_generator
from openmiro.lab.captions import Captions, write_captions
from openmiro.lab.scenes import LabSettings, Scene, render, sample_scene

MANIFEST_NAME = "lab.json"
WORLD_VERSION = 1
"""Changes whenever the same seed would give other bytes."""


class Manifest(Config):
    """What a folder of lab shards was made with."""

    world_version: int = WORLD_VERSION
    num_pairs: int
    seed: int
    pairs_per_shard: int
    settings: LabSettings


@dataclass(frozen=True)
class Pair:
    """One scene with its captions."""

    index: int
    scene: Scene
    captions: Captions


@dataclass(frozen=True)
class _Task:
    path: Path
    start: int
    stop: int
    seed: int
    settings: LabSettings

    @property
    def producer(self) -> dict[str, Any]:
        return {
            "world_version": WORLD_VERSION,
            "seed": self.seed,
            "start": self.start,
            "stop": self.stop,
            "settings": self.settings.dump(),
        }


def sample_pair(index: int, seed: int, settings: LabSettings) -> Pair:
    """Pair number `index` of the endless dataset with this seed."""
    rng = numpy_generator(seed, "lab/pair", index)
    scene = sample_scene(rng, settings)
    return Pair(index, scene, write_captions(scene, rng, settings))


def synthesize(
    folder: Path,
    num_pairs: int,
    seed: int = 0,
    settings: LabSettings | None = None,
    pairs_per_shard: int = 1000,
    num_workers: int = 1,
) -> list[Path]:
    """Writes `num_pairs` pairs as ``00000.tar``, ``00001.tar``, ... and `MANIFEST_NAME`; returns the tars.

    Shards that are already whole are kept, so an interrupted run goes on where it was; the bytes depend on the
    arguments only, not on the number of workers.

    Raises:
        ConfigError: a number is not positive.
        ProvenanceError: the folder holds lab shards made with other arguments.
    """
    settings = settings or LabSettings()
    if num_pairs < 1 or pairs_per_shard < 1:
        raise ConfigError("num_pairs and pairs_per_shard must be at least 1")
    folder = Path(folder)
    _claim_folder(folder, Manifest(num_pairs=num_pairs, seed=seed, pairs_per_shard=pairs_per_shard, settings=settings))
    remove_leftovers(folder)
    tasks = [
        _Task(folder / f"{shard:05d}.tar", start, min(start + pairs_per_shard, num_pairs), seed, settings)
        for shard, start in enumerate(range(0, num_pairs, pairs_per_shard))
    ]
    missing = [task for task in tasks if not is_committed(task.path, producer=task.producer)]
    done = num_pairs - sum(t.stop - t.start for t in missing)
    with progress("making lab pictures", num_pairs, "pairs", done=done) as advance:
        for num_written in _run(missing, num_workers):
            advance(num_written)
    return [task.path for task in tasks]


def _claim_folder(folder: Path, manifest: Manifest) -> None:
    path = folder / MANIFEST_NAME
    if not path.exists():
        write_json(path, manifest.dump())
        return
    found = read_json(path)
    if found != manifest.dump():
        raise ProvenanceError(
            f"{folder} already holds lab shards made with other arguments (see {path}). Use the same arguments or"
            " another output folder."
        )


def _run(tasks: list[_Task], num_workers: int) -> Iterator[int]:
    if num_workers <= 1 or len(tasks) <= 1:
        yield from map(_write_shard, tasks)
        return
    with ProcessPoolExecutor(min(num_workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_write_shard, task) for task in tasks]):
            yield future.result()


def _write_shard(task: _Task) -> int:
    record_path(task.path).unlink(missing_ok=True)
    with atomic_path(task.path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(task.start, task.stop):
            _add_pair(tar, sample_pair(index, task.seed, task.settings), task.settings)
    num_pairs = task.stop - task.start
    commit(task.path, task.path, kind="lab", producer=task.producer, counts={"ok": num_pairs})
    return num_pairs


def _add_pair(tar: tarfile.TarFile, pair: Pair, settings: LabSettings) -> None:
    key = f"{pair.index:09d}"
    picture = io.BytesIO()
    image = render(pair.scene, settings.resolution)
    if settings.image_format == "png":
        image.save(picture, "PNG", compress_level=6)
    else:
        image.save(picture, "JPEG", quality=95, subsampling=0)
    record = {
        "key": key,
        "synthetic_caption": pair.captions.synthetic,
        "short_synthetic_caption": pair.captions.short_synthetic,
        "caption_status": pair.captions.status.value,
        "scene": scene_to_json(pair.scene),
    }
    _add_member(tar, f"{key}.{settings.image_format}", picture.getvalue())
    _add_member(tar, f"{key}.txt", pair.captions.original.encode())
    _add_member(tar, f"{key}.json", json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def scene_to_json(scene: Scene) -> dict[str, Any]:
    """The scene as JSON types, rounded to what the eye can see."""
    return _rounded(asdict(scene))


def _rounded(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # TarInfo's defaults (time 0, owner 0) keep the bytes a function of the content.
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
