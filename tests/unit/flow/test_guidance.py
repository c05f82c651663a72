from typing import NamedTuple

import pytest
import torch

from openmiro.core.errors import ConfigError
from openmiro.core.types import Condition, DenoiserOutput
from openmiro.flow.guidance import (
    Branch,
    Interval,
    guided_velocity,
    joint_guidance,
    reward_guidance,
    text_guidance,
)
from openmiro.flow.solvers import solve, time_grid


class Call(NamedTuple):
    rows: int
    t: float
    carry: torch.Tensor | None


class LinearDenoiser:
    """Velocity = level + 10 [text present] + t x, so that guided velocities have a closed form; counts its calls."""

    latent_shape = (1, 2, 2)

    def __init__(self, with_carry: bool = False) -> None:
        self.with_carry, self.prepared, self.calls = with_carry, 0, []

    def prepare(self, condition):
        self.prepared += 1
        level = torch.where(condition.known, condition.level, 0.0).sum(1)
        return level + 10.0 * condition.text_mask.any(1)

    def __call__(self, x_t, t, prepared, carry=None):
        assert len(x_t) == len(prepared) == len(t)
        self.calls.append(Call(len(x_t), t[0].item(), carry))
        velocity = prepared[:, None, None, None] + t[:, None, None, None] * x_t
        if not self.with_carry:
            return DenoiserOutput(velocity)
        count = torch.zeros(len(x_t), 1) if carry is None else carry
        return DenoiserOutput(velocity, count + prepared[:, None])


def condition(levels: list[float], batch: int = 3) -> Condition:
    level = torch.tensor(levels).expand(batch, -1)
    ones = torch.ones(batch, 2, dtype=torch.bool)
    return Condition(torch.zeros(batch, 2, dtype=torch.long), ones, level, torch.ones_like(level, dtype=torch.bool))


@pytest.fixture
def x():
    return torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def test_reward_guidance_extrapolates_from_avoid_to_target(x):
    branches = reward_guidance(condition([1.0]), condition([0.25]), 3.0)
    velocity = guided_velocity(LinearDenoiser(), branches)(x, 0.5)
    torch.testing.assert_close(velocity, 3.0 * (11 + 0.5 * x) - 2.0 * (10.25 + 0.5 * x))


def test_text_guidance_keeps_the_levels(x):
    velocity = guided_velocity(LinearDenoiser(), text_guidance(condition([0.7]), 2.0))(x, 0.5)
    torch.testing.assert_close(velocity, 2.0 * 10.7 - 0.7 + 0.5 * x)


def test_joint_guidance_drops_text_and_takes_the_avoid_levels(x):
    velocity = guided_velocity(LinearDenoiser(), joint_guidance(condition([1.0]), condition([0.5]), 2.0))(x, 0.5)
    torch.testing.assert_close(velocity, 2.0 * 11.0 - 0.5 + 0.5 * x)


@pytest.mark.parametrize("make", [reward_guidance, joint_guidance])
def test_scale_one_runs_the_condition_alone_bit_for_bit(make, x):
    denoiser, plain = LinearDenoiser(), LinearDenoiser()
    target = condition([0.9])
    velocity = guided_velocity(denoiser, make(target, condition([0.1]), 1.0))(x, 0.3)
    alone = plain(x, torch.full((3,), 0.3), plain.prepare(target)).velocity
    assert torch.equal(velocity, alone)
    assert [c.rows for c in denoiser.calls] == [3]


def test_all_branches_run_in_one_batch_and_are_prepared_once(x):
    denoiser = LinearDenoiser()
    solve("euler", guided_velocity(denoiser, text_guidance(condition([1.0]), 2.0)), x, time_grid(5))
    assert [c.rows for c in denoiser.calls] == [6] * 5
    assert denoiser.prepared == 1


def test_weights_must_sum_to_one():
    with pytest.raises(ConfigError, match="sum to 1"):
        guided_velocity(LinearDenoiser(), [Branch(condition([1.0]), 2.0), Branch(condition([0.0]), -0.5)])
    with pytest.raises(ConfigError, match="sum to 1"):
        guided_velocity(LinearDenoiser(), [])


def test_outside_the_interval_only_the_first_branch_runs(x):
    denoiser = LinearDenoiser()
    velocity = guided_velocity(denoiser, text_guidance(condition([1.0]), 3.0), Interval(0.2, 0.6))
    inside, above, below = velocity(x, 0.6), velocity(x, 0.7), velocity(x, 0.1)
    assert [c.rows for c in denoiser.calls] == [6, 3, 3]
    torch.testing.assert_close(inside, 3.0 * 11 - 2.0 * 1 + 0.6 * x)
    torch.testing.assert_close(above, 11 + 0.7 * x)
    torch.testing.assert_close(below, 11 + 0.1 * x)


def test_three_branches_add_up(x):
    branches = [Branch(condition([v]), w) for v, w in ((1.0, 1.5), (0.5, 0.5), (0.0, -1.0))]
    velocity = guided_velocity(LinearDenoiser(), branches)(x, 0.0)
    torch.testing.assert_close(velocity, torch.full_like(x, 1.5 * 11 + 0.5 * 10.5 - 10.0))


def test_each_branch_keeps_its_own_carry(x):
    denoiser = LinearDenoiser(with_carry=True)
    velocity = guided_velocity(denoiser, text_guidance(condition([1.0]), 2.0))
    for t in (1.0, 0.5, 0.2):
        velocity(x, t)
    assert denoiser.calls[0].carry is None
    # Two steps of adding the branch's own prepared value: 11 for the text, 1 for the null text.
    assert denoiser.calls[2].carry[:, 0].tolist() == [22.0] * 3 + [2.0] * 3


def test_carry_survives_the_interval(x):
    denoiser = LinearDenoiser(with_carry=True)
    velocity = guided_velocity(denoiser, text_guidance(condition([1.0]), 2.0), Interval(0.3, 0.7))
    for t in (0.9, 0.5, 0.1):
        velocity(x, t)
    # The first call ran the text branch alone; the null branch starts from where the picture is.
    assert denoiser.calls[1].carry[:, 0].tolist() == [11.0] * 6
    assert denoiser.calls[2].carry[:, 0].tolist() == [22.0] * 3
