"""Solvers on flows whose solution is known: Gaussian data, for which the ideal velocity has a closed form."""

import math

import pytest
import torch

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.flow.solvers import SOLVERS, solve, time_grid

MEAN, STD = 1.5, 0.4


def spread(t: float) -> float:
    """Standard deviation of x_t for data N(MEAN, STD^2)."""
    return math.sqrt(((1 - t) * STD) ** 2 + t**2)


def gaussian_velocity(x: torch.Tensor, t: float) -> torch.Tensor:
    """E[eps - x0 | x_t], linear in x."""
    gain = (t - (1 - t) * STD**2) / spread(t) ** 2
    return gain * (x - (1 - t) * MEAN) - MEAN


def exact(x1: torch.Tensor) -> torch.Tensor:
    """The flow keeps (x_t - mean_t) / spread_t."""
    return MEAN + STD * x1


def error(name: str, num_steps: int) -> float:
    x1 = torch.linspace(-2, 2, 9, dtype=torch.float64)
    return (solve(name, gaussian_velocity, x1, time_grid(num_steps)) - exact(x1)).abs().max().item()


@pytest.mark.parametrize(("name", "order"), [("euler", 1.0), ("heun", 2.0), ("dpmpp_2m", 2.0)])
def test_convergence_order(name, order):
    slope = math.log2(error(name, 128) / error(name, 256))
    assert slope == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m"])
def test_second_order_beats_euler(name):
    assert error(name, 64) < error("euler", 64) / 5


@pytest.mark.parametrize("name", SOLVERS.names())
def test_constant_velocity_is_exact_in_few_steps(name):
    x1 = torch.randn(3, 2, dtype=torch.float64)
    out = solve(name, lambda x, t: torch.full_like(x, 0.7), x1, time_grid(3))
    torch.testing.assert_close(out, x1 - 0.7)


@pytest.mark.parametrize("name", SOLVERS.names())
def test_known_data_point_is_reached_exactly(name):
    """For data at a single point the velocity is (x - x0) / t and every solver lands on x0 whatever the grid."""
    x0 = torch.tensor([0.3, -1.0], dtype=torch.float64)
    out = solve(name, lambda x, t: (x - x0) / t, torch.randn(2, dtype=torch.float64), time_grid(4, shift=2.0))
    torch.testing.assert_close(out, x0)


@pytest.mark.parametrize(("name", "per_step"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 1)])
def test_number_of_evaluations(name, per_step):
    times = []

    def velocity(x, t):
        times.append(t)
        return gaussian_velocity(x, t)

    solve(name, velocity, torch.zeros(1), time_grid(5))
    assert len(times) == (9 if per_step == 2 else 5)  # Heun's last step is Euler's
    assert 0.0 not in times


@pytest.mark.parametrize("name", SOLVERS.names())
def test_callback_sees_every_step(name):
    seen = []
    out = solve(name, gaussian_velocity, torch.ones(2), time_grid(4), lambda *step: seen.append(step))
    assert [(i, n, t) for i, n, t, _ in seen] == [(0, 4, 0.75), (1, 4, 0.5), (2, 4, 0.25), (3, 4, 0.0)]
    torch.testing.assert_close(seen[-1][3], out)


def test_grid_falls_from_one_to_zero_and_shift_lingers_at_noise():
    even, shifted = time_grid(10), time_grid(10, shift=3.0)
    assert even == pytest.approx([1 - i / 10 for i in range(11)])
    assert shifted[0] == 1
    assert shifted[-1] == 0
    assert shifted[5] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))


@pytest.mark.parametrize(("num_steps", "shift"), [(0, 1.0), (-1, 1.0), (5, 0.0)])
def test_impossible_grids_are_errors(num_steps, shift):
    with pytest.raises(ConfigError):
        time_grid(num_steps, shift)


def test_unknown_solver_lists_the_choices():
    with pytest.raises(UnknownNameError, match="Did you mean 'euler'"):
        solve("eulr", gaussian_velocity, torch.ones(1), time_grid(2))


@pytest.mark.parametrize("grid", [[1.0], [0.0, 1.0], [1.0, 1.0, 0.0]])
def test_grids_that_do_not_fall_are_errors(grid):
    with pytest.raises(ConfigError, match="fall strictly"):
        solve("euler", gaussian_velocity, torch.ones(1), grid)
