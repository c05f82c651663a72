import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.core.errors import ConfigError, DataError
from openmiro.data.sampler import PositionSampler


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 5))
def test_every_epoch_is_a_permutation(num_rows, seed, epoch):
    sampler = PositionSampler(num_rows, seed)
    epochs, rows = sampler.locate(np.arange(epoch * num_rows, (epoch + 1) * num_rows))
    assert (epochs == epoch).all()
    assert np.array_equal(np.sort(rows), np.arange(num_rows))


@settings(deadline=None)
@given(st.integers(1, 10**12), st.integers(0, 2**31), st.lists(st.integers(0, 2**50), min_size=1, max_size=20))
def test_a_position_does_not_depend_on_its_batch(num_rows, seed, positions):
    sampler = PositionSampler(num_rows, seed)
    together = sampler.rows(positions)
    assert together.tolist() == [int(sampler.rows([p])[0]) for p in positions]
    assert ((together >= 0) & (together < num_rows)).all()


def test_seeds_and_epochs_differ():
    orders = {tuple(PositionSampler(50, seed).rows(np.arange(e * 50, e * 50 + 50))) for seed in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_order_is_well_mixed():
    """Ranks of neighbors are uncorrelated and every row is as likely as any other at a given position."""
    rows = PositionSampler(10_000, 3).rows(np.arange(10_000)).astype(float)
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(rows, np.arange(10_000))[0, 1]) < 0.04
    first = [int(PositionSampler(8, seed).rows([0])[0]) for seed in range(4000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # chi square, 7 degrees of freedom, p = 0.001


@given(st.integers(0, 100), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_processes_share_the_same_global_batch(step, world_size):
    sampler = PositionSampler(100, 0, batch_size=12)
    parts = [sampler.positions(step, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate(parts), sampler.positions(step))


def test_batches_go_on_from_any_step():
    sampler = PositionSampler(10, 0, batch_size=4)
    whole = list(sampler.batches(0, 6))
    assert all(np.array_equal(a, b) for a, b in zip(whole[3:], sampler.batches(3, 3)))


def test_without_shuffle_rows_come_in_order():
    assert PositionSampler(4, 0, shuffle=False).rows(range(6)).tolist() == [0, 1, 2, 3, 0, 1]


def test_errors():
    with pytest.raises(DataError):
        PositionSampler(0, 0)
    with pytest.raises(ConfigError):
        PositionSampler(4, 0, batch_size=0)
    with pytest.raises(ConfigError):
        PositionSampler(4, 0, batch_size=5).positions(0, 0, 2)
