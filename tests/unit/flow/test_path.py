import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.core.errors import ConfigError
from openmiro.flow.path import (
    LogitNormalTime,
    UniformTime,
    eps_from_velocity,
    golden_uniform,
    interpolate,
    velocity_target,
    x0_from_velocity,
)


@pytest.fixture
def triple():
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 5, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0, eps, torch.rand(5, generator=generator, dtype=torch.float64)


def test_ends_of_the_path_are_data_and_noise(triple):
    x0, eps, _ = triple
    torch.testing.assert_close(interpolate(x0, eps, torch.zeros(5)), x0)
    torch.testing.assert_close(interpolate(x0, eps, torch.ones(5)), eps)


def test_each_sample_has_its_own_time(triple):
    x0, eps, t = triple
    expected = torch.stack([(1 - t[i]) * x0[i] + t[i] * eps[i] for i in range(5)])
    torch.testing.assert_close(interpolate(x0, eps, t), expected)


def test_velocity_is_the_derivative_of_the_path(triple):
    x0, eps, t = triple
    h = 1e-6
    slope = (interpolate(x0, eps, t + h) - interpolate(x0, eps, t - h)) / (2 * h)
    torch.testing.assert_close(velocity_target(x0, eps), slope, rtol=0, atol=1e-8)


def test_velocity_gives_both_ends_back(triple):
    x0, eps, t = triple
    x_t, v = interpolate(x0, eps, t), velocity_target(x0, eps)
    torch.testing.assert_close(x0_from_velocity(x_t, v, t), x0)
    torch.testing.assert_close(eps_from_velocity(x_t, v, t), eps)


def test_logit_normal_has_the_stated_logits():
    u = (np.arange(20_000) + 0.5) / 20_000
    t = LogitNormalTime(mean=0.4, std=1.3).times(u).double()
    logits = torch.log(t / (1 - t))
    assert logits.mean().item() == pytest.approx(0.4, abs=1e-3)
    assert logits.std().item() == pytest.approx(1.3, abs=1e-2)


@given(st.floats(0, 1, exclude_max=True), st.floats(-3, 3), st.floats(0.1, 3))
def test_times_stay_inside(u, mean, std):
    for distribution in (LogitNormalTime(mean=mean, std=std), UniformTime()):
        t = distribution.times([u])
        assert t.dtype == torch.float32
        assert 0 < t.item() < 1


def test_times_grow_with_u():
    t = LogitNormalTime().times(np.linspace(0, 1, 1001)[:-1])
    assert (t.diff() >= 0).all()


def test_unknown_setting_is_an_error():
    with pytest.raises(ConfigError, match="men"):
        LogitNormalTime.parse({"men": 0.0})


@settings(max_examples=50)
@given(st.integers(0, 2**40), st.integers(16, 300), st.floats(0, 1, exclude_max=True))
def test_golden_numbers_of_any_consecutive_positions_are_even(start, count, offset):
    u = np.sort(golden_uniform(np.arange(start, start + count), offset))
    assert u[0] >= 0
    assert u[-1] < 1
    gaps = np.diff(np.append(u, u[0] + 1))
    # Three-gap theorem: no gap is larger than about 1.9 times the average for this rotation (2.3 leaves margin).
    assert gaps.max() <= 2.3 / count


def test_golden_numbers_depend_on_the_position_alone():
    np.testing.assert_array_equal(golden_uniform(np.arange(100), 0.3)[40:50], golden_uniform(np.arange(40, 50), 0.3))
