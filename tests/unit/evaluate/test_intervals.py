import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core.errors import ConfigError
from openmiro.evaluate.intervals import Estimate, bootstrap_mean, mean_of_shares, wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_in_closed_form():
    # Half of n trials: the interval is 1/2 +- z / (2 sqrt(n + z^2)).
    z = 1.959963984540054
    estimate = wilson(50, 100)
    half = z / (2 * math.sqrt(100 + z**2))
    assert estimate.value == 0.5
    assert estimate.low == pytest.approx(0.5 - half, abs=1e-12)
    assert estimate.high == pytest.approx(0.5 + half, abs=1e-12)
    # No success among n: the upper end is z^2 / (n + z^2).
    assert wilson(0, 20).low == 0
    assert wilson(0, 20).high == pytest.approx(z**2 / (20 + z**2), abs=1e-12)


@given(counts)
def test_wilson_bounds_solve_the_score_equation(count):
    successes, trials = count
    estimate = wilson(successes, trials)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    for bound in (estimate.low, estimate.high):
        distance = (successes / trials - bound) ** 2
        assert distance == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / trials, abs=1e-9)


@given(counts)
def test_wilson_is_symmetric(count):
    successes, trials = count
    a, b = wilson(successes, trials), wilson(trials - successes, trials)
    assert (a.low, a.high) == pytest.approx((1 - b.high, 1 - b.low))


def test_wilson_covers_as_promised():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5):
        draws = rng.binomial(60, share, 4000)
        covered = np.mean([wilson(int(d), 60).low <= share <= wilson(int(d), 60).high for d in draws])
        assert covered == pytest.approx(0.95, abs=0.025)


def test_no_trials_say_nothing():
    estimate = wilson(0, 0)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0, 1)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts(successes, trials):
    with pytest.raises(ConfigError, match="impossible"):
        wilson(successes, trials)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_impossible_confidence(confidence):
    with pytest.raises(ConfigError, match="confidence"):
        wilson(1, 2, confidence)
    with pytest.raises(ConfigError, match="confidence"):
        bootstrap_mean([1.0], confidence=confidence)


def test_mean_of_shares():
    one = wilson(30, 100)
    assert mean_of_shares([one]).low == pytest.approx(one.low)
    # Four alike: the interval of the mean is half as wide.
    four = mean_of_shares([one] * 4)
    assert four.value == pytest.approx(0.3)
    assert four.value - four.low == pytest.approx((one.value - one.low) / 2)
    assert four.high - four.value == pytest.approx((one.high - one.value) / 2)
    with pytest.raises(ConfigError, match="no shares"):
        mean_of_shares([])


def test_mean_of_shares_covers_as_promised():
    rng = np.random.default_rng(1)
    shares = np.array([0.05, 0.3, 0.6, 0.9])
    covered = 0
    for _ in range(2000):
        estimate = mean_of_shares([wilson(int(rng.binomial(40, p)), 40) for p in shares])
        covered += estimate.low <= shares.mean() <= estimate.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.025)


def test_bootstrap_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = bootstrap_mean(values, num_resamples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.03)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_is_repeatable_and_exact_for_constants():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert bootstrap_mean([2.5] * 9) == Estimate(2.5, 2.5, 2.5)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_bootstrap_of_nothing(values):
    with pytest.raises(ConfigError, match="bootstrap"):
        bootstrap_mean(values)


def test_above_means_wholly_above():
    assert Estimate(0.5, 0.4, 0.6).above(Estimate(0.2, 0.1, 0.3))
    assert not Estimate(0.5, 0.3, 0.6).above(Estimate(0.2, 0.1, 0.3))
