"""Raw scores to levels and back: equal-population bins in which ties keep their mass.

Definition. Let n finite scores have been fitted, and let the *rank* of any number v be
F(v) = (#{scores < v} + #{scores = v} / 2) / n, its mid-rank. With B bins, the bin of v is min(floor(B F(v)), B - 1) and
its level is bin / (B - 1), in [0, 1]. A level is therefore a function of the value alone and never falls as the value
rises; for scores without ties every bin holds n / B of them; a tied block goes whole to the bin of its middle.
A number below all scores has level 0 and one above all has level 1, so nothing leaves [0, 1].

F steps up only at fitted scores, so bin b >= 1 begins at one exact float32, `edges[b - 1]`: a fitted score, or the
float32 just above one. The table is exact for every float32, fitted or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from openmiro.core.artifact import read_json, write_json
from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import (
    ConfigError,
    DamagedFileError,
    MissingFileError,
    ProvenanceError,
)
from openmiro.core.types import RewardSet, RewardSpec
from openmiro.rewards.histogram import Chunks, Histogram, RankedValue, count, order_statistics
from openmiro.rewards.level_table import LevelTable

DEFAULT_BINS = 64


class LevelTables(Config):
    """The level tables of a reward set, in its order, with what they were fitted on.

    Attributes:
        tables: one per reward, in declared order.
        openmiro_version: of the package that fitted them.
    """

    schema_version: Literal[1] = 1
    tables: tuple[LevelTable, ...]
    openmiro_version: str = Field(default_factory=lambda: version("openmiro"))

    def model_post_init(self, context: Any) -> None:
        _ = self.rewards  # refuses a reward named twice

    @cached_property
    def rewards(self) -> RewardSet:
        """The rewards in declared order."""
        return RewardSet(specs=tuple(t.spec for t in self.tables))

    @property
    def names(self) -> tuple[str, ...]:
        return self.rewards.names

    def __len__(self) -> int:
        return len(self.tables)

    def table(self, name: str) -> LevelTable:
        """The table of one reward.

        Raises:
            UnknownNameError: no such reward; the message lists those there are.
        """
        return self.tables[self.rewards.index(name)]

    def subset(self, names: Sequence[str]) -> LevelTables:
        """The tables of some rewards, in the order of `names`."""
        return LevelTables(tables=tuple(self.table(n) for n in names), openmiro_version=self.openmiro_version)

    def transform(self, name: str, raw: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """`LevelTable.transform` of one reward."""
        return self.table(name).transform(raw)

    def to_level(self, name: str, raw: float) -> float:
        """`LevelTable.to_level` of one reward."""
        return self.table(name).to_level(raw)

    def inverse(self, name: str, level: float) -> float:
        """`LevelTable.inverse` of one reward."""
        return self.table(name).inverse(level)

    def fingerprint(self) -> str:
        """A hash of the tables, equal exactly where they give the same levels from the same data.

        The package version that wrote them does not count.
        """
        return fingerprint([t.dump() for t in self.tables])

    def check_data(self, fingerprints: Mapping[str, str]) -> None:
        """Verifies that the score columns at hand are the fitted ones.

        Args:
            fingerprints: reward name -> fingerprint of its score columns.

        Raises:
            UnknownNameError: a reward has no level table.
            ProvenanceError: a reward's columns are not the ones its levels were fitted on.
        """
        for name, data in fingerprints.items():
            if self.table(name).data != data:
                raise ProvenanceError(
                    f"the levels of '{name}' were fitted on other data: its scores have changed since."
                    " Run: openmiro levels fit DATASET"
                )

    def check_rewards(self, rewards: RewardSet) -> None:
        """Verifies that every reward has a table that was fitted on scores of the same version of the scorer.

        Raises:
            UnknownNameError: a reward has no level table.
            ProvenanceError: a table belongs to another version of the reward.
        """
        for spec in rewards.specs:
            fitted = self.table(spec.name).spec
            if fitted.version != spec.version:
                raise ProvenanceError(
                    f"the levels of '{spec.name}' were fitted on scores of its version {fitted.version}, but version"
                    f" {spec.version} is at hand. Annotate again, then run: openmiro levels fit DATASET"
                )

    def save(self, path: Path) -> None:
        """Writes the JSON file atomically; equal tables give equal bytes."""
        write_json(path, self.dump())

    @classmethod
    def load(cls, path: Path) -> LevelTables:
        """Reads what `save` wrote.

        Raises:
            MissingFileError: there is no such file.
            DamagedFileError: it is not a file of level tables.
        """
        if not path.exists():
            raise MissingFileError(f"{path} does not exist. Make it with: openmiro levels fit DATASET")
        try:
            values = read_json(path)
            if not isinstance(values, dict):
                raise ConfigError("it must hold a mapping")
            return cls.parse(values, str(path))
        except ConfigError as error:
            raise DamagedFileError(f"{path} is not a file of level tables: {error}") from None


@dataclass(frozen=True)
class ScoreColumn:
    """All raw scores of one reward.

    Attributes:
        spec: of the reward.
        chunks: yields the scores piece by piece, twice. A missing score is left out or NaN (then it is counted).
        data: fingerprint of the columns, kept as provenance.
    """

    spec: RewardSpec
    chunks: Chunks
    data: str = ""


def fit_levels(columns: Iterable[ScoreColumn], num_bins: int = DEFAULT_BINS) -> LevelTables:
    """Exact level tables of several rewards, in the order given."""
    return LevelTables(tables=tuple(fit_level_table(c, num_bins) for c in columns))


def fit_level_table(column: ScoreColumn, num_bins: int = DEFAULT_BINS) -> LevelTable:
    """The exact level table of one reward, in bounded memory and two passes over its scores (three where ties need it).

    Raises:
        ConfigError: fewer than 2 bins.
        DataError: the scores changed between the passes.
    """
    if num_bins < 2:
        raise ConfigError(f"levels need at least 2 bins (given: {num_bins})")
    histogram = count(column.chunks)
    edges: tuple[float | None, ...] = ()
    centers: tuple[float, ...] = ()
    minimum = maximum = None
    if num_values := histogram.num_values:
        found = order_statistics(column.chunks, histogram, _wanted_ranks(num_values, num_bins))
        starts = [_bin_start(f, b, num_values, num_bins) for b, f in enumerate(found[: num_bins - 1], start=1)]
        edges = tuple(_decimal(s.edge) if np.isfinite(s.edge) else None for s in starts)
        limits = [0, *(s.below for s in starts), num_values]
        centers = tuple(_bin_centers(column.chunks, histogram, found[num_bins - 1 : -2], limits))
        minimum, maximum = _decimal(found[-2].value), _decimal(found[-1].value)
    return LevelTable(
        spec=column.spec,
        num_bins=num_bins,
        edges=edges,
        centers=centers,
        minimum=minimum,
        maximum=maximum,
        num_values=num_values,
        num_nan=histogram.num_nan,
        num_inf=histogram.num_inf,
        data=column.data,
    )


def _wanted_ranks(n: int, num_bins: int) -> list[int]:
    # The inverse of the distribution function at q is the score of rank ceil(n q) - 1, here in exact integers.
    edges = [-(-n * b // num_bins) - 1 for b in range(1, num_bins)]
    centers = [-(-n * (2 * b + 1) // (2 * num_bins)) - 1 for b in range(num_bins)]
    return [*edges, *centers, 0, n - 1]


class _BinStart(NamedTuple):
    edge: np.float32
    below: int  # fitted scores below the edge


def _bin_start(found: RankedValue, b: int, n: int, num_bins: int) -> _BinStart:
    """The smallest float32 of mid-rank >= b / B, given the smallest score of which n b / B scores are not above."""
    if num_bins * (2 * found.below + found.equal) >= 2 * n * b:
        return _BinStart(found.value, found.below)
    with np.errstate(over="ignore", under="ignore"):
        above = np.nextafter(found.value, np.float32(np.inf))
    return _BinStart(above, found.below + found.equal)


def _bin_centers(chunks: Chunks, histogram: Histogram, middle: list[RankedValue], limits: list[int]) -> list[float]:
    """A fitted score for every bin; bin b holds the scores of ranks limits[b] ... limits[b + 1] - 1."""
    inside = [low <= m.below < high for m, low, high in zip(middle, limits, limits[1:])]
    # A tied block of another bin may cover the middle rank of a bin that has scores of its own: take their median.
    displaced = [b for b, ok in enumerate(inside) if not ok and limits[b] < limits[b + 1]]
    centers = [m.value for m in middle]
    if displaced:
        medians = order_statistics(chunks, histogram, [(limits[b] + limits[b + 1] - 1) // 2 for b in displaced])
        for b, median in zip(displaced, medians):
            centers[b] = median.value
    return [_decimal(c) for c in centers]


def _decimal(value: np.float32) -> float:
    """The shortest decimal number that reads back as this float32."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == value else float(value)


__all__ = ["DEFAULT_BINS", "LevelTable", "LevelTables", "ScoreColumn", "fit_level_table", "fit_levels"]
