"""Numbers about a dataset: the distribution of every score column, how rewards correlate, captions and sizes.

Drawing them is the report's task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmiro.core.errors import MissingFileError
from openmiro.core.types import CaptionKind
from openmiro.data.accounting import DatasetReport, make_report
from openmiro.data.columns import read_row_columns, read_score_values
from openmiro.data.status import RowStatus
from openmiro.data.store import Dataset

NUM_BINS = 50
MAX_CORRELATED = 200_000
"""Rank correlations are taken over at most so many evenly spaced rows."""


@dataclass(frozen=True)
class RewardStats:
    """One score column. Numbers are NaN where no score is known.

    Attributes:
        reward, column: which one; `unit` is the raw score's.
        num_known, num_missing: usable rows with and without a score.
        bin_edges: float64 [NUM_BINS + 1], from minimum to maximum; empty where no score is known.
        bin_counts: int64 [NUM_BINS].
    """

    reward: str
    column: str
    unit: str
    num_known: int
    num_missing: int
    minimum: float
    p10: float
    median: float
    p90: float
    maximum: float
    mean: float
    std: float
    bin_edges: NDArray[np.float64]
    bin_counts: NDArray[np.int64]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of rewards, each pair over the rows where both are known.

    Attributes:
        names: rewards; text-dependent ones are scored with the original caption.
        matrix: float64 [R, R]; NaN where a reward is constant or fewer than two rows have both.
        num_rows: rows looked at.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]
    num_rows: int


@dataclass(frozen=True)
class CaptionStats:
    """The captions of one kind: how many usable rows have one, and their lengths in words."""

    kind: str
    num: int
    mean_words: float
    median_words: float
    p90_words: float
    max_words: int


@dataclass(frozen=True)
class DatasetStats:
    """All numbers about a dataset."""

    dataset: Path
    report: DatasetReport
    rewards: tuple[RewardStats, ...]
    correlation: RankCorrelation
    captions: tuple[CaptionStats, ...]
    sizes: NDArray[np.int64]
    """(width, height) of every usable picture, [N, 2]."""

    def accounting(self) -> str:
        """What became of every row, and the captions, in words."""
        lines = self.report.lines()
        lines += [
            f"{c.kind} captions: {c.num}, of {c.median_words:.0f} words (median; {c.max_words} at most)"
            for c in self.captions
            if c.num
        ]
        return "\n".join(lines)


def dataset_stats(dataset: Dataset | Path | str) -> DatasetStats:
    """The statistics of a dataset, from its rows and scores.

    Raises:
        MissingFileError: no dataset, or a stage was not run to its end; names the command.
        DamagedFileError: a file is damaged.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    usable = [_usable(dataset, shard) for shard in dataset.shards]
    values = {
        (reward, column): _scores(dataset, reward, column, usable)
        for reward in dataset.rewards()
        for column in map(str, dataset.reward_spec(reward).columns)
    }
    stats = tuple(
        reward_stats(reward, column, dataset.reward_spec(reward).unit, raw) for (reward, column), raw in values.items()
    )
    first = {reward: raw for (reward, column), raw in values.items() if column != CaptionKind.SYNTHETIC}
    return DatasetStats(
        dataset=dataset.folder,
        report=make_report(dataset),
        rewards=stats,
        correlation=rank_correlation(tuple(first), list(first.values())),
        captions=_captions(dataset),
        sizes=_sizes(dataset),
    )


def reward_stats(reward: str, column: str, unit: str, raw: NDArray[np.float32]) -> RewardStats:
    """The distribution of raw scores [N], NaN where missing."""
    known = raw[np.isfinite(raw)].astype(np.float64)
    if not len(known):
        nan = float("nan")
        empty = (np.empty(0), np.empty(0, np.int64))
        return RewardStats(reward, column, unit, 0, len(raw), nan, nan, nan, nan, nan, nan, nan, *empty)
    minimum, p10, median, p90, maximum = (float(q) for q in np.quantile(known, [0, 0.1, 0.5, 0.9, 1]))
    counts, edges = np.histogram(known, bins=_edges(minimum, maximum))
    return RewardStats(
        reward=reward,
        column=column,
        unit=unit,
        num_known=len(known),
        num_missing=len(raw) - len(known),
        minimum=minimum,
        p10=p10,
        median=median,
        p90=p90,
        maximum=maximum,
        mean=float(known.mean()),
        std=float(known.std()),
        bin_edges=edges,
        bin_counts=counts.astype(np.int64),
    )


def rank_correlation(names: Sequence[str], columns: Sequence[NDArray[np.float32]]) -> RankCorrelation:
    """Spearman's correlation of every pair of columns [N], NaN where missing; ties share their mean rank."""
    num_rows = len(columns[0]) if columns else 0
    at = np.unique(np.linspace(0, num_rows - 1, min(num_rows, MAX_CORRELATED)).astype(np.int64)) if num_rows else []
    picked = [np.asarray(column)[at] for column in columns]
    matrix = np.full((len(names), len(names)), np.nan)
    for i, a in enumerate(picked):
        for j, b in enumerate(picked[: i + 1]):
            matrix[i, j] = matrix[j, i] = spearman(a, b)
    return RankCorrelation(tuple(names), matrix, len(at))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation over the positions where both are finite; NaN where it is undefined."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = mean_ranks(x[both]), mean_ranks(y[both])
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1, 1))


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]


def _edges(minimum: float, maximum: float) -> NDArray[np.float64]:
    # A constant column still gets bins of some width, with the value in the middle.
    margin = 0.0 if maximum > minimum else max(abs(minimum), 1.0) * 0.5
    return np.linspace(minimum - margin, maximum + margin, NUM_BINS + 1)


def _usable(dataset: Dataset, shard: str) -> NDArray[np.bool_]:
    status = read_row_columns(dataset.rows_path(shard), ["status"]).column("status").to_pylist()
    return np.array([s == RowStatus.OK for s in status], bool)


def _scores(dataset: Dataset, reward: str, column: str, usable: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    parts = []
    for shard, ok in zip(dataset.shards, usable):
        path = dataset.scores_path(reward, column, shard)
        if not path.exists():
            raise MissingFileError(
                f"{path} does not exist. Run: openmiro annotate SOURCE --out {dataset.folder} --rewards {reward}"
            )
        parts.append(read_score_values(path)[ok])
    return np.concatenate(parts)


def _captions(dataset: Dataset) -> tuple[CaptionStats, ...]:
    columns = {"original": "caption", "synthetic": "synthetic_caption", "short synthetic": "short_synthetic_caption"}
    lengths: dict[str, list[int]] = {kind: [] for kind in columns}
    for shard in dataset.shards:
        table = read_row_columns(dataset.rows_path(shard), ["status", *columns.values()])
        status = table.column("status").to_pylist()
        for kind, name in columns.items():
            texts = zip(status, table.column(name).to_pylist())
            lengths[kind].extend(len(text.split()) for s, text in texts if s == RowStatus.OK and text)
    return tuple(_caption_stats(kind, np.array(found)) for kind, found in lengths.items())


def _caption_stats(kind: str, words: NDArray[np.int64]) -> CaptionStats:
    if not len(words):
        return CaptionStats(kind, 0, 0.0, 0.0, 0.0, 0)
    median, p90 = (float(q) for q in np.quantile(words, [0.5, 0.9]))
    return CaptionStats(kind, len(words), float(words.mean()), median, p90, int(words.max()))


def _sizes(dataset: Dataset) -> NDArray[np.int64]:
    parts = []
    for shard in dataset.shards:
        table = read_row_columns(dataset.rows_path(shard), ["status", "width", "height"])
        columns = zip(*(table.column(name).to_pylist() for name in table.column_names))
        parts.extend((width, height) for status, width, height in columns if status == RowStatus.OK)
    return np.array(parts, np.int64).reshape(-1, 2)
