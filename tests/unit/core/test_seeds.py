import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core import seeds


@given(st.integers(0, 2**31), st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(1, 4))
def test_uniform_row_depends_on_its_position_only(seed, positions, num):
    together = seeds.uniform(seed, "test", positions, num)
    alone = np.concatenate([seeds.uniform(seed, "test", [p], num) for p in positions])
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (len(positions), num)
    assert ((together >= 0) & (together < 1)).all()


def test_uniform_is_uniform_and_uncorrelated():
    draws = seeds.uniform(0, "test", np.arange(100_000), 2)
    # Standard error of the mean is 0.0009, of a correlation 0.003.
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.005)
    np.testing.assert_allclose(draws.var(0), 1 / 12, atol=0.002)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.015
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.015
    counts = np.histogram(draws[:, 0], bins=64, range=(0, 1))[0]
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_square < 120  # 63 degrees of freedom: beyond 120 with probability 2e-5


def test_streams_of_other_purpose_or_seed_differ():
    base = seeds.uniform(0, "a", range(8))
    assert not np.allclose(base, seeds.uniform(0, "b", range(8)))
    assert not np.allclose(base, seeds.uniform(1, "a", range(8)))


def test_normal_row_depends_on_its_position_only():
    together = seeds.normal(3, "noise", [5, 9], (2, 3))
    torch.testing.assert_close(together[1:], seeds.normal(3, "noise", [9], (2, 3)), rtol=0, atol=0)
    big = seeds.normal(0, "noise", range(100), (1000,))
    assert abs(big.mean()) < 0.02
    assert abs(big.std() - 1) < 0.02


def test_permutation_is_a_permutation_and_changes_with_the_epoch():
    first, second = (seeds.permutation(0, "order", epoch, 100) for epoch in (0, 1))
    assert sorted(first) == list(range(100)) == sorted(second)
    assert list(first) != list(second)
    assert list(first) == list(seeds.permutation(0, "order", 0, 100))


def test_known_values_never_change():
    # Runs are resumed across versions: the numbers behind (seed, purpose, position) are part of the format.
    known = [0.28478282113589426, 0.13104347516706805, 0.8521458285413618]
    np.testing.assert_array_equal(seeds.uniform(0, "time", [0, 1, 2])[:, 0], known)
    assert seeds.stream_key(0, "time") == 5129574688927740956
