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
from typing import Annotated, Any, Literal

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
    TargetError,
)
from openmiro.core.types import RewardSet, RewardSpec
from openmiro.rewards.histogram import Chunks, RankedValue, count, order_statistics

DEFAULT_BINS = 64
METHOD = "mid-rank"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, eq=False)  # equality of tables is that of their fields; arrays would have no single answer
class _Arrays:
    edges: NDArray[np.float32]
    centers: NDArray[np.float32]


class LevelTable(Config):
    """The levels of one reward.

    Attributes:
        spec: the scorer whose raw scores were fitted, with its version.
        num_bins: B.
        edges: B - 1 ascending float32 values; the bin of v is the number of edges <= v. None, at the end only, is an
            edge that no finite float32 reaches. Empty where no score is known.
        centers: B ascending raw values, one per bin: the score at the middle rank of the bin, moved by at most one
            float32 step where a tied block keeps it outside. Empty where no score is known.
        minimum, maximum: of the fitted scores; None where no score is known.
        num_values: finite scores, which is n.
        num_nan, num_inf: scores that were left out.
        data: fingerprint of the score columns.
        method: how edges were found; another method would be another name.
    """

    spec: RewardSpec
    num_bins: Annotated[int, Field(ge=2)]
    edges: tuple[float | None, ...]
    centers: tuple[float, ...]
    minimum: float | None
    maximum: float | None
    num_values: Count
    num_nan: Count
    num_inf: Count
    data: str = ""
    method: Literal["mid-rank"] = METHOD

    def model_post_init(self, context: Any) -> None:
        expected = (self.num_bins - 1, self.num_bins) if self.num_values else (0, 0)
        if (len(self.edges), len(self.centers)) != expected:
            raise ConfigError(f"levels of '{self.spec.name}': {expected[0]} edges and {expected[1]} centers expected")
        for name, values in (("edges", self._arrays.edges), ("centers", self._arrays.centers)):
            if not (values[1:] >= values[:-1]).all():
                raise ConfigError(f"levels of '{self.spec.name}': {name} must ascend")

    @cached_property
    def _arrays(self) -> _Arrays:
        edges = np.array([np.inf if e is None else e for e in self.edges], np.float32)
        return _Arrays(edges, np.array(self.centers, np.float32))

    def bins(self, raw: ArrayLike) -> NDArray[np.int64]:
        """The bin 0 ... B - 1 of each raw value, any shape. NaN and infinities must be masked by the caller."""
        with np.errstate(over="ignore"):
            return np.searchsorted(self._arrays.edges, np.asarray(raw, np.float32), side="right")

    def transform(self, raw: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Levels in [0, 1] and whether they are known, both of the shape of `raw`.

        A level is unknown (and 0) where the score is NaN or infinite, and everywhere if no score was ever fitted.
        """
        with np.errstate(over="ignore"):
            values = np.asarray(raw, np.float32)
        known = np.isfinite(values) & (self.num_values > 0)
        level = (self.bins(values) / (self.num_bins - 1)).astype(np.float32)
        return np.where(known, level, np.float32(0)), known

    def to_level(self, raw: float) -> float:
        """The level of one raw target.

        Raises:
            TargetError: the target is not finite, or no score was ever fitted.
        """
        self._require_scores()
        level, known = self.transform(raw)
        if not known:
            raise TargetError(f"the target {raw} of '{self.spec.name}' is not a finite number ({self.spec.unit})")
        return float(level)

    def inverse(self, level: float) -> float:
        """The raw score that stands for a level: the center of the nearest bin.

        Raises:
            TargetError: the level is outside [0, 1], or no score was ever fitted.
        """
        return float(self.inverse_array(level))

    def inverse_array(self, level: ArrayLike) -> NDArray[np.float32]:
        """`inverse` for levels of any shape."""
        self._require_scores()
        levels = np.asarray(level, np.float64)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise TargetError(f"a level of '{self.spec.name}' must lie in [0, 1] (given: {level})")
        return self._arrays.centers[np.floor(levels * (self.num_bins - 1) + 0.5).astype(np.int64)]

    def _require_scores(self) -> None:
        if not self.num_values:
            raise TargetError(
                f"the reward '{self.spec.name}' has no level: not one finite score was fitted"
                f" ({self.num_nan} NaN, {self.num_inf} infinite). Leave it out of the targets."
            )


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
    """The exact level table of one reward, in two passes over its scores and bounded memory.

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
        ranks = _wanted_ranks(num_values, num_bins)
        found = order_statistics(column.chunks, histogram, ranks)
        starts = _bin_starts(found[: num_bins - 1], num_values, num_bins)
        edges = tuple(_decimal(e) if np.isfinite(e) else None for e in starts)
        centers = tuple(_decimal(c) for c in _bin_centers(found[num_bins - 1 : -2], starts))
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


def _bin_starts(found: Sequence[RankedValue], n: int, num_bins: int) -> NDArray[np.float32]:
    """The smallest float32 of mid-rank >= b / B, for b = 1 ... B - 1."""
    reached = [num_bins * (2 * f.below + f.equal) >= 2 * n * b for b, f in enumerate(found, start=1)]
    values = np.array([f.value for f in found], np.float32)
    return np.where(reached, values, _next_float(values, np.inf))


def _bin_centers(found: Sequence[RankedValue], starts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The score at the middle rank of each bin, moved into the bin where it lies outside and the bin has a place."""
    values = np.array([f.value for f in found], np.float32)
    lowest = np.concatenate([[-np.inf], starts]).astype(np.float32)
    highest = np.concatenate([_next_float(starts, -np.inf), [np.inf]]).astype(np.float32)
    reachable = (lowest <= highest) & (lowest < np.inf)
    return np.where(reachable, np.clip(values, lowest, np.maximum(lowest, highest)), values)


def _next_float(values: NDArray[np.float32], toward: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(values, np.float32(toward))


def _decimal(value: np.float32) -> float:
    """The shortest decimal number that reads back as this float32."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == value else float(value)


__all__ = ["DEFAULT_BINS", "LevelTable", "LevelTables", "ScoreColumn", "fit_level_table", "fit_levels"]
