"""Units of work: one stage of one shard. They are small, and travel to worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class AnnotateTask:
    """Read one shard, account for its rows, score them.

    Attributes:
        dataset: the dataset folder.
        shard: name of the shard.
        rewards: names by which the catalog loads them, sets expanded.
        batch_size: pictures scored together; part of what determines the bytes of a batched network's scores.
    """

    dataset: Path
    shard: str
    rewards: tuple[str, ...]
    batch_size: int = 64


@dataclass(frozen=True)
class LatentTask:
    """Encode the pictures of one shard.

    Attributes:
        dataset: the dataset folder.
        shard: name of the shard.
        codec: full name of the latents, such as "patch4x12-64"; the codec itself is saved in their folder.
        resolution: side of the square pictures.
        batch_size: pictures encoded together.
    """

    dataset: Path
    shard: str
    codec: str
    resolution: int
    batch_size: int = 64


@dataclass(frozen=True)
class TextTask:
    """Encode the captions of one shard.

    Attributes:
        dataset: the dataset folder.
        shard: name of the shard.
        encoder: name of the text columns; the encoder itself is saved in their folder.
        batch_size: captions encoded together.
    """

    dataset: Path
    shard: str
    encoder: str
    batch_size: int = 64


Task = AnnotateTask | LatentTask | TextTask


@dataclass(frozen=True)
class TaskReport:
    """What became of a task.

    Attributes:
        shard: name of the shard.
        num_rows: rows read, usable or not.
        files_written: files committed by this run.
        files_kept: files that were there before.
        notes: what is wrong with the shard as a whole.
    """

    shard: str
    num_rows: int
    files_written: int = 0
    files_kept: int = 0
    notes: tuple[str, ...] = field(default=())
