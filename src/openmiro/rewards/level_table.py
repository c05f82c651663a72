"""The levels of one reward: a table of exact bin edges between raw scores and levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError, TargetError
from openmiro.core.types import RewardSpec

METHOD = "mid-rank"

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(strict=True)]


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
        centers: B ascending fitted scores, one per bin: the score at the middle rank (b + 1/2) / B; where a tied block
            of another bin covers that rank, the median of the bin's own scores if it has any. Empty like `edges`.
        minimum, maximum: of the fitted scores; None where no score is known.
        num_values: finite scores, which is n.
        num_nan, num_inf: scores that were left out.
        data: fingerprint of the score columns.
        method: how edges were found; another method would be another name.
    """

    spec: RewardSpec
    num_bins: Annotated[int, Field(ge=2)]
    edges: tuple[Number | None, ...]
    centers: tuple[Number, ...]
    minimum: Number | None
    maximum: Number | None
    num_values: Count
    num_nan: Count
    num_inf: Count
    data: str = ""
    method: Literal["mid-rank"] = METHOD

    def model_post_init(self, context: Any) -> None:
        expected = (self.num_bins - 1, self.num_bins) if self.num_values else (0, 0)
        if (len(self.edges), len(self.centers)) != expected:
            raise ConfigError(f"levels of '{self.spec.name}': {expected[0]} edges and {expected[1]} centers expected")
        if (self.minimum is not None, self.maximum is not None) != (bool(self.num_values), bool(self.num_values)):
            raise ConfigError(f"levels of '{self.spec.name}': minimum and maximum belong to {self.num_values} scores")
        edges, centers = self._arrays.edges, self._arrays.centers
        if not ((edges[1:] >= edges[:-1]).all() and (centers[1:] >= centers[:-1]).all() and np.isfinite(centers).all()):
            raise ConfigError(f"levels of '{self.spec.name}': edges and centers must be finite and ascend")

    @cached_property
    def _arrays(self) -> _Arrays:
        with np.errstate(over="ignore"):
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
