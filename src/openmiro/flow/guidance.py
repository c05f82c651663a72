"""Guidance: velocities under several conditions, weighted and added.

v = sum_k weight_k v(x_t, t, condition_k) with weights that sum to 1. The kinds of guidance differ only in their list
of branches, and the solver never sees any of this: it gets one velocity function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from openmiro.core.errors import ConfigError
from openmiro.core.types import Condition, Denoiser

VelocityFn = Callable[[Tensor, float], Tensor]
"""(x_t [B, C, H, W], t) -> velocity [B, C, H, W]."""


class Branch(NamedTuple):
    """One term of the sum: a condition (B rows) and its weight."""

    condition: Condition
    weight: float


class Interval(NamedTuple):
    """Noise levels low <= t <= high at which guidance is on; elsewhere the first branch runs alone.

    Kynkaanniemi et al. 2024, "Applying Guidance in a Limited Interval".
    """

    low: float = 0.0
    high: float = 1.0

    def contains(self, t: float) -> bool:
        return self.low <= t <= self.high


EVERYWHERE = Interval()


def reward_guidance(target: Condition, avoid: Condition, guidance_scale: float) -> list[Branch]:
    """From the avoid levels to the target levels: scale v(target) + (1 - scale) v(avoid).

    Scale 1 is plain conditional sampling; the paper's w is scale - 1 (MIRO, equation for multi-reward guidance).
    """
    return _extrapolate(target, avoid, guidance_scale)


def text_guidance(condition: Condition, guidance_scale: float) -> list[Branch]:
    """Classifier-free guidance: from the null text to the text, at the same levels on both sides."""
    return _extrapolate(condition, condition.null_text(), guidance_scale)


def joint_guidance(target: Condition, avoid: Condition, guidance_scale: float) -> list[Branch]:
    """From null text and avoid levels at once to text and target levels, as the released pipeline does."""
    return _extrapolate(target, avoid.null_text(), guidance_scale)


def guided_velocity(denoiser: Denoiser, branches: Sequence[Branch], interval: Interval = EVERYWHERE) -> VelocityFn:
    """A velocity function that runs all branches in one batch, with conditions prepared once.

    Each branch keeps its own carry from call to call, so a velocity function belongs to one trajectory. Carries are
    trees of tensors whose first axis is the batch.

    Raises:
        ConfigError: the weights do not sum to 1.
    """
    branches = _checked(branches)
    if len(branches) == 1:
        return _single(denoiser, branches[0].condition)
    return _Guided(denoiser, branches, interval)


def _extrapolate(positive: Condition, negative: Condition, scale: float) -> list[Branch]:
    return [Branch(positive, scale), Branch(negative, 1.0 - scale)]


def _checked(branches: Sequence[Branch]) -> list[Branch]:
    total = sum(b.weight for b in branches)
    if not branches or abs(total - 1.0) > 1e-6:
        raise ConfigError(f"guidance weights must sum to 1, these sum to {total:g}")
    # A branch without weight costs a forward pass and could only add rounding: it is not run.
    return [b for b in branches if b.weight != 0.0]


def _single(denoiser: Denoiser, condition: Condition) -> VelocityFn:
    prepared, carry = denoiser.prepare(condition), None

    def velocity(x: Tensor, t: float) -> Tensor:
        nonlocal carry
        output = denoiser(x, _times(x, t), prepared, carry)
        carry = output.carry
        return output.velocity

    return velocity


class _Guided:
    """All branches in one batch; outside the interval the first one alone, with its own rows of the carry."""

    def __init__(self, denoiser: Denoiser, branches: list[Branch], interval: Interval) -> None:
        self.denoiser, self.interval = denoiser, interval
        self.weights = [b.weight for b in branches]
        self.prepared = denoiser.prepare(Condition.cat([b.condition for b in branches]))
        limited = interval != EVERYWHERE
        self.prepared_first = denoiser.prepare(branches[0].condition) if limited else None
        self.carry: Any = None

    def __call__(self, x: Tensor, t: float) -> Tensor:
        return self._all(x, t) if self.interval.contains(t) else self._first(x, t)

    def _all(self, x: Tensor, t: float) -> Tensor:
        num = len(self.weights)
        repeated = x.repeat(num, *([1] * (x.ndim - 1)))
        output = self.denoiser(repeated, _times(repeated, t), self.prepared, self.carry)
        self.carry = output.carry
        parts = output.velocity.chunk(num)
        total = parts[0] * self.weights[0]
        for part, weight in zip(parts[1:], self.weights[1:], strict=True):
            total = total.add(part, alpha=weight)
        return total

    def _first(self, x: Tensor, t: float) -> Tensor:
        rows, num = x.shape[0], len(self.weights)
        own = None if self.carry is None else tree_map(lambda c: c[:rows], self.carry)
        output = self.denoiser(x, _times(x, t), self.prepared_first, own)
        if output.carry is not None:
            # The other branches have not moved with the picture: they follow the first until guidance is on again.
            self.carry = tree_map(lambda c: torch.cat([c] * num), output.carry)
        return output.velocity


def _times(x: Tensor, t: float) -> Tensor:
    return torch.full((x.shape[0],), t, dtype=torch.float32, device=x.device)
