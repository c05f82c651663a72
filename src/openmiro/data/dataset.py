"""Training data: latents, encoded captions and levels of the usable rows, by position.

What a position sees is a function of (seed, position) alone: the row, the caption chosen for it and the draw from the
codec's distribution. A caption brings its own scores; those of the other caption never travel with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from openmiro.core.errors import DamagedFileError, DataError
from openmiro.core.seeds import normal, uniform
from openmiro.core.types import CaptionKind, RewardSet
from openmiro.data.checks import FULL_CHECK_BYTES, check_columns, check_stage
from openmiro.data.columns import Latents, TextColumn, read_latents, read_row_columns, read_score_values, read_text
from openmiro.data.sampler import PositionSampler
from openmiro.data.status import RowStatus
from openmiro.data.store import Dataset

ToLevels = Callable[[str, NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""(reward name, raw scores [N], NaN where missing) -> (level [N] in [0, 1], known [N])."""

_KINDS = (CaptionKind.ORIGINAL, CaptionKind.SYNTHETIC)


@dataclass(frozen=True)
class TrainingBatch:
    """What the data hold for some positions, before dropout, noise and time.

    Attributes:
        latent: float32 [B, C, H, W], drawn from the codec's distribution where it has one.
        text: int64 [B, L] ids or float32 [B, L, D] features.
        text_mask: bool [B, L].
        level: float32 [B, R] of the chosen caption; 0 where unknown.
        known: bool [B, R].
        is_synthetic: bool [B], which caption was chosen.
        rows: int64 [B], numbers of the rows among the usable ones.
        keys: sample keys.
    """

    latent: Tensor
    text: Tensor
    text_mask: Tensor
    level: Tensor
    known: Tensor
    is_synthetic: Tensor
    rows: NDArray[np.int64]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class _Usable:
    """Usable rows of all shards, one after the other."""

    shard: NDArray[np.int32]
    row: NDArray[np.int64]
    has_synthetic: NDArray[np.bool_]


class TrainingData:
    """Random access to a dataset by position. Small to send to worker processes: files are mapped where they are used.

    Attributes:
        dataset: the folder.
        rewards: in the order of the R axis.
        codec, encoder: full names of the columns.
        latent_shape: (C, H, W).
        max_tokens: L.
        text_dim: D of features; None for ids.
    """

    def __init__(
        self,
        dataset: Dataset,
        rewards: RewardSet,
        codec: str,
        encoder: str,
        max_tokens: int,
        usable: _Usable,
        level: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> None:
        self.dataset, self.rewards, self.codec, self.encoder, self.max_tokens = (
            dataset,
            rewards,
            codec,
            encoder,
            max_tokens,
        )
        self._usable, self._level, self._known = usable, level, known
        self._latents: dict[int, Latents] = {}
        self._texts: dict[tuple[int, int], TextColumn] = {}
        self._keys: dict[int, NDArray[np.object_]] = {}

    @classmethod
    def open(
        cls,
        dataset: Dataset | Path | str,
        rewards: RewardSet,
        levels: ToLevels,
        *,
        codec: str | None = None,
        encoder: str | None = None,
        check: Literal["auto", "full", "size"] = "auto",
    ) -> TrainingData:
        """Opens the columns that a run needs and verifies them.

        Args:
            dataset: the folder.
            rewards: to condition on; may be empty.
            levels: turns raw scores into levels.
            codec, encoder: which columns; may be left out where the dataset has one.
            check: "full" verifies every byte; "size" only that each file was finished and has its size; "auto" is
                "full" up to `FULL_CHECK_BYTES` and "size" above.

        Raises:
            MissingFileError: a stage was not run, or not to its end; names the command.
            DamagedFileError: a file is not what its record says.
            ProvenanceError: a column was made from other rows.
            DataError: no row can be used.
        """
        dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
        codec, encoder = dataset.choose_codec(codec), dataset.choose_encoder(encoder)
        check_columns(dataset, rewards, codec, encoder, check)
        usable = _usable_rows(dataset, codec)
        if not len(usable.row):
            raise DataError(f"the dataset {dataset.folder} has no usable rows; {dataset.report_path} says why")
        level, known = _load_levels(dataset, rewards, usable, levels)
        return cls(dataset, rewards, codec, encoder, _max_tokens(dataset, encoder), usable, level, known)

    def __len__(self) -> int:
        return len(self._usable.row)

    def __getstate__(self) -> dict[str, object]:
        hidden = {"_latents": {}, "_texts": {}, "_keys": {}}
        return {**{k: v for k, v in self.__dict__.items() if k != "latent_shape"}, **hidden}

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self._latents_of(int(self._usable.shard[0])).mean.shape[1:]
        return channels, height, width

    @property
    def text_dim(self) -> int | None:
        """D of features; None for ids."""
        values = self._text_of(int(self._usable.shard[0]), 0).values
        return values.shape[1] if values.ndim == 2 else None

    @property
    def codec_folder(self) -> Path:
        """The saved codec that made the latents."""
        return self.dataset.codec_folder(self.codec)

    @property
    def encoder_folder(self) -> Path:
        """The saved text encoder."""
        return self.dataset.encoder_folder(self.encoder)

    def sampler(self, seed: int, batch_size: int = 1) -> PositionSampler:
        """The order of the rows."""
        return PositionSampler(len(self), seed, batch_size)

    def batch(self, positions: ArrayLike, seed: int, synthetic_share: float = 0.0) -> TrainingBatch:
        """What stands at some positions.

        Args:
            positions: int64 [B], samples since the start of training.
            seed: of order, caption choice and latent noise.
            synthetic_share: probability that a row with both captions is seen with its synthetic one.
        """
        at = np.asarray(positions, np.int64).reshape(-1)
        rows = self.sampler(seed).rows(at)
        wants_synthetic = uniform(seed, "caption", at)[:, 0] < synthetic_share
        synthetic = wants_synthetic & self._usable.has_synthetic[rows]
        text, mask = self._gather_text(rows, synthetic)
        chosen = synthetic.astype(np.intp)
        return TrainingBatch(
            latent=self._gather_latents(rows, at, seed),
            text=torch.from_numpy(text),
            text_mask=torch.from_numpy(mask),
            level=torch.from_numpy(self._level[chosen, rows]),
            known=torch.from_numpy(self._known[chosen, rows]),
            is_synthetic=torch.from_numpy(synthetic),
            rows=rows,
            keys=self.keys(rows),
        )

    def keys(self, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """Sample keys of usable rows."""
        shards, inner = self._usable.shard[rows], self._usable.row[rows]
        return tuple(str(self._keys_of(int(s))[i]) for s, i in zip(shards, inner))

    def _gather_latents(self, rows: NDArray[np.int64], positions: NDArray[np.int64], seed: int) -> Tensor:
        mean = torch.empty(len(rows), *self.latent_shape, dtype=torch.float32)
        std: Tensor | None = None
        for shard, where, inner in self._by_shard(rows):
            latents = self._latents_of(shard)
            mean.numpy()[where] = latents.mean[inner]
            if latents.std is not None:
                std = torch.zeros_like(mean) if std is None else std
                std.numpy()[where] = latents.std[inner]
        if std is None:
            return mean
        return mean + std * normal(seed, "latent", positions, self.latent_shape)

    def _gather_text(
        self, rows: NDArray[np.int64], synthetic: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64] | NDArray[np.float32], NDArray[np.bool_]]:
        dim = self.text_dim
        shape = (len(rows), self.max_tokens)
        text = np.zeros(shape, np.int64) if dim is None else np.zeros((*shape, dim), np.float32)
        mask = np.zeros(shape, bool)
        for kind in range(len(_KINDS)):
            members = np.flatnonzero(synthetic == bool(kind))
            for shard, where, inner in self._by_shard(rows[members]):
                column = self._text_of(shard, kind)
                starts, lengths = column.offsets[inner], np.diff(column.offsets)[inner]
                inside = np.arange(self.max_tokens) < lengths[:, None]
                tokens = column.values[(starts[:, None] + np.arange(self.max_tokens))[inside]]
                part = np.zeros((len(inner), *text.shape[1:]), text.dtype)
                part[inside] = tokens
                text[members[where]], mask[members[where]] = part, inside
        return text, mask

    def _by_shard(self, rows: NDArray[np.int64]):
        """(shard, which of `rows`, their numbers inside the shard)."""
        shards = self._usable.shard[rows]
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            yield int(shard), where, self._usable.row[rows[where]]

    def _latents_of(self, shard: int) -> Latents:
        if shard not in self._latents:
            self._latents[shard] = read_latents(self.dataset.latents_path(self.codec, self.dataset.shards[shard]))
        return self._latents[shard]

    def _text_of(self, shard: int, kind: int) -> TextColumn:
        if (shard, kind) not in self._texts:
            path = self.dataset.text_path(self.encoder, _KINDS[kind], self.dataset.shards[shard])
            self._texts[shard, kind] = read_text(path)
        return self._texts[shard, kind]

    def _keys_of(self, shard: int) -> NDArray[np.object_]:
        if shard not in self._keys:
            table = read_row_columns(self.dataset.rows_path(self.dataset.shards[shard]), ["key"])
            self._keys[shard] = np.array(table.column("key").to_pylist(), object)
        return self._keys[shard]


def _usable_rows(dataset: Dataset, codec: str) -> _Usable:
    shard_numbers, numbers, synthetic = [], [], []
    for index, shard in enumerate(dataset.shards):
        columns = ["status", "synthetic_caption", "short_synthetic_caption"]
        table = read_row_columns(dataset.rows_path(shard), columns)
        is_ok = np.array([s == RowStatus.OK for s in table.column("status").to_pylist()], bool)
        latents = read_latents(dataset.latents_path(codec, shard))
        if len(latents.present) != len(is_ok) or (latents.present != is_ok).any():
            raise DamagedFileError(f"{dataset.latents_path(codec, shard)} does not belong to its rows file")
        has = [np.array(table.column(name).is_valid().to_pylist(), bool) for name in columns[1:]]
        row = np.flatnonzero(is_ok)
        shard_numbers.append(np.full(len(row), index, np.int32))
        numbers.append(row)
        synthetic.append((has[0] | has[1])[row])
    return _Usable(np.concatenate(shard_numbers), np.concatenate(numbers), np.concatenate(synthetic))


def _load_levels(
    dataset: Dataset, rewards: RewardSet, usable: _Usable, levels: ToLevels
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Level and known, [2, N, R]: by caption kind, usable row and reward."""
    shape = (len(_KINDS), len(usable.row), len(rewards))
    level, known = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for r, spec in enumerate(rewards.specs):
        for k, kind in enumerate(_KINDS):
            if k and not spec.needs_text:
                level[k, :, r], known[k, :, r] = level[0, :, r], known[0, :, r]
                continue
            raw = _raw_scores(dataset, spec.name, spec.column(kind), usable)
            found, is_known = levels(spec.name, raw)
            known[k, :, r] = is_known & np.isfinite(raw)
            level[k, :, r] = np.where(known[k, :, r], found, 0)
    return level, known


def _raw_scores(dataset: Dataset, reward: str, column: str, usable: _Usable) -> NDArray[np.float32]:
    parts = []
    for index, shard in enumerate(dataset.shards):
        path = dataset.scores_path(reward, column, shard)
        values, inner = read_score_values(path), usable.row[usable.shard == index]
        if len(inner) and inner[-1] >= len(values):
            raise DamagedFileError(f"{path} does not belong to its rows file")
        parts.append(values[inner])
    return np.concatenate(parts)


def _max_tokens(dataset: Dataset, encoder: str) -> int:
    record = check_stage(dataset.text_path(encoder, CaptionKind.ORIGINAL, dataset.shards[0]), "encode", dataset)
    return int(record.producer["max_tokens"])


__all__ = ["FULL_CHECK_BYTES", "ToLevels", "TrainingBatch", "TrainingData"]
