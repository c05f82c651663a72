"""Solvers of dx/dt = v(x, t) from noise at t = 1 to data at t = 0, as plain functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from openmiro.core.errors import ConfigError
from openmiro.core.registry import Registry
from openmiro.flow.guidance import VelocityFn

StepCallback = Callable[[int, int, float, Tensor], None]
"""(step, num_steps, t, x): called after each step with the time and the picture it arrived at."""


class Solver(Protocol):
    """Follows a velocity function along a grid of times."""

    def __call__(
        self, velocity: VelocityFn, x: Tensor, grid: Sequence[float], callback: StepCallback | None = None
    ) -> Tensor: ...


SOLVERS = Registry(
    kind="solver",
    builtin={
        "euler": "openmiro.flow.solvers:euler",
        "heun": "openmiro.flow.solvers:heun",
        "dpmpp_2m": "openmiro.flow.solvers:dpmpp_2m",
    },
)


def solve(
    name: str, velocity: VelocityFn, x1: Tensor, grid: Sequence[float], callback: StepCallback | None = None
) -> Tensor:
    """x_0 of noise x1 by the solver of this name.

    Raises:
        UnknownNameError: no such solver (lists them).
        ConfigError: the grid does not fall strictly.
    """
    if len(grid) < 2 or any(s >= t for t, s in itertools.pairwise(grid)):
        raise ConfigError("the times of a solver must fall strictly, from 1 (noise) to 0 (data)")
    return SOLVERS.resolve(name)(velocity, x1, grid, callback)


def time_grid(num_steps: int, shift: float = 1.0) -> list[float]:
    """num_steps + 1 times from 1 to 0; shift above 1 spends more steps at high noise.

    t = shift u / (1 + (shift - 1) u) of an even grid u (Esser et al. 2024, equation 23).

    Raises:
        ConfigError: fewer than one step, or a shift that is not positive.
    """
    if num_steps < 1:
        raise ConfigError(f"the number of steps must be at least 1 (given: {num_steps})")
    if shift <= 0:
        raise ConfigError(f"the shift of the time grid must be positive (given: {shift:g})")
    even = [1.0 - i / num_steps for i in range(num_steps + 1)]
    return [shift * u / (1.0 + (shift - 1.0) * u) for u in even]


def euler(velocity: VelocityFn, x: Tensor, grid: Sequence[float], callback: StepCallback | None = None) -> Tensor:
    """Euler's method: first order, one evaluation a step."""
    for step, (t, s) in enumerate(itertools.pairwise(grid)):
        x = x + (s - t) * velocity(x, t)
        _report(callback, step, grid, x)
    return x


def heun(velocity: VelocityFn, x: Tensor, grid: Sequence[float], callback: StepCallback | None = None) -> Tensor:
    """Heun's method: second order, two evaluations a step.

    The step to t = 0 is Euler's (as in Karras et al. 2022, algorithm 1): training never shows t = 0, and one step of
    local error O(h^2) keeps the order.
    """
    for step, (t, s) in enumerate(itertools.pairwise(grid)):
        v = velocity(x, t)
        guess = x + (s - t) * v
        x = guess if s == 0.0 else x + 0.5 * (s - t) * (v + velocity(guess, s))
        _report(callback, step, grid, x)
    return x


def dpmpp_2m(velocity: VelocityFn, x: Tensor, grid: Sequence[float], callback: StepCallback | None = None) -> Tensor:
    """Exponential two-step method on the data prediction: second order, one evaluation a step.

    With D = x - t v the flow reads d(x / t)/dt = -D / t^2, whose solution is
    x_s = (s / t) x_t + s * integral from s to t of D(u) / u^2 du. As in DPM-Solver++(2M) (Lu et al. 2022) the linear
    part is solved exactly and D is extrapolated from its last two values; here linearly in t, so that no step needs
    the log-SNR, which is infinite at both ends. The first step is Euler's.
    """
    last: tuple[Tensor, float] | None = None
    for step, (t, s) in enumerate(itertools.pairwise(grid)):
        data = x - t * velocity(x, t)
        x_next = (s / t) * x + (1.0 - s / t) * data
        if last is not None:
            slope = (data - last[0]) / (t - last[1])
            # s * integral of (u - t) / u^2 from s to t; its limit at s = 0 is -t.
            x_next = x_next + slope * ((s * math.log(t / s) if s > 0.0 else 0.0) - t + s)
        x, last = x_next, (data, t)
        _report(callback, step, grid, x)
    return x


def _report(callback: StepCallback | None, step: int, grid: Sequence[float], x: Tensor) -> None:
    if callback is not None:
        callback(step, len(grid) - 1, grid[step + 1], x)
