"""The straight path between data (t = 0) and noise (t = 1), and where on it training looks.

x_t = (1 - t) x_0 + t eps and v = eps - x_0, hence x_0 = x_t - t v and eps = x_t + (1 - t) v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from openmiro.core.config import Config

_GOLDEN_STEP = np.uint64(0x9E3779B97F4A7C15)  # the fractional part of the golden ratio times 2^64
_TIME_MARGIN = 1e-5


def interpolate(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t [B, ...] of data x0 and noise eps [B, ...] at times t [B]."""
    return torch.lerp(x0, eps, _per_sample(t, x0))


def velocity_target(x0: Tensor, eps: Tensor) -> Tensor:
    """v = eps - x0, the derivative of the path."""
    return eps - x0


def x0_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The data end of the straight line through x_t with this velocity; t [B]."""
    return x_t - _per_sample(t, x_t) * velocity


def eps_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The noise end of the straight line through x_t with this velocity; t [B]."""
    return x_t + (1 - _per_sample(t, x_t)) * velocity


class LogitNormalTime(Config):
    """t = sigmoid(mean + std z) with z standard normal: middle noise levels are seen most.

    Attributes:
        mean: of the logit; above 0 looks at noisier pictures.
        std: of the logit.
    """

    kind: Literal["logit_normal"] = "logit_normal"
    mean: float = 0.0
    std: float = 1.0

    def times(self, u: ArrayLike) -> Tensor:
        """Maps uniform numbers in [0, 1) to times in (0, 1), float32, by the inverse of the distribution function."""
        uniform = torch.as_tensor(np.asarray(u), dtype=torch.float64)
        tiny = torch.finfo(torch.float64).eps
        z = torch.special.ndtri(uniform.clamp(tiny, 1 - tiny))
        return _inside(torch.sigmoid(self.mean + self.std * z))


class UniformTime(Config):
    """t uniform in (0, 1)."""

    kind: Literal["uniform"] = "uniform"

    def times(self, u: ArrayLike) -> Tensor:
        """Maps uniform numbers in [0, 1) to times in (0, 1), float32."""
        return _inside(torch.as_tensor(np.asarray(u), dtype=torch.float64))


TimeDistribution = LogitNormalTime | UniformTime


def golden_uniform(positions: Sequence[int] | NDArray[np.integer], offset: float) -> NDArray[np.float64]:
    """Low-discrepancy uniform numbers frac(offset + k * golden ratio) for positions k.

    Any run of consecutive positions covers [0, 1) evenly (Kronecker sequence), so that every batch sees all noise
    levels; a function of the position alone, whatever the batch size.
    """
    k = np.asarray(positions).astype(np.uint64)
    with np.errstate(over="ignore"):
        fraction = (k * _GOLDEN_STEP >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (fraction + offset) % 1.0


def _per_sample(t: Tensor, like: Tensor) -> Tensor:
    return t.to(like.dtype).view(-1, *([1] * (like.ndim - 1)))


def _inside(t: Tensor) -> Tensor:
    return t.clamp(_TIME_MARGIN, 1 - _TIME_MARGIN).float()
