"""Confidence intervals: Wilson's for shares, the bootstrap's for means, and their combination for a mean of shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from openmiro.core.errors import ConfigError
from openmiro.core.seeds import numpy_generator


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval [low, high]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def above(self, other: Estimate) -> bool:
        """Whether this interval lies wholly above the other."""
        return self.low > other.high


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927, without continuity correction).

    No trials at all leave everything open: the value is NaN and the interval [0, 1].

    Raises:
        ConfigError: more successes than trials, a negative number, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ConfigError(f"{successes} successes in {trials} trials is impossible")
    z = _z(confidence)
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    share = successes / trials
    scale = 1 + z**2 / trials
    center = (share + z**2 / (2 * trials)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At the ends the bounds are exactly 0 and 1; rounding must not move them.
    low = 0.0 if successes == 0 else max(0.0, float(center - half))
    high = 1.0 if successes == trials else min(1.0, float(center + half))
    return Estimate(share, low, high)


def mean_of_shares(shares: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent shares, its interval recovered from theirs (MOVER; Zou and Donner 2008).

    Raises:
        ConfigError: there are none.
    """
    if not shares:
        raise ConfigError("the mean of no shares does not exist")
    value = sum(s.value for s in shares) / len(shares)
    down = np.sqrt(sum((s.value - s.low) ** 2 for s in shares)) / len(shares)
    up = np.sqrt(sum((s.high - s.value) ** 2 for s in shares)) / len(shares)
    return Estimate(value, value - float(down), value + float(up))


def bootstrap_mean(values: ArrayLike, seed: int = 0, num_resamples: int = 2000, confidence: float = 0.95) -> Estimate:
    """Mean with its percentile bootstrap interval (Efron 1979); the same seed gives the same interval.

    Raises:
        ConfigError: no values, a value that is not finite, or a confidence outside (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    _z(confidence)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ConfigError("a bootstrap needs at least one value, and finite ones only")
    rng = numpy_generator(seed, "bootstrap-mean")
    means = np.empty(num_resamples)
    block = max(1, 4_000_000 // sample.size)
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        means[start : start + size] = sample[rng.integers(sample.size, size=(size, sample.size))].mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(sample.mean()), float(low), float(high))


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence lies between 0 and 1, such as 0.95 (given: {confidence})")
    return NormalDist().inv_cdf((1 + confidence) / 2)
