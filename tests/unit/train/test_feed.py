import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.train.distributed import Group
from openmiro.train.feed import open_share
from openmiro.train.recipe import load_recipe
from openmiro.train.source import RandomSource

REWARDS = ("aesthetic", "shadow")
SOURCE = RandomSource((4, 2, 2), REWARDS)


def recipe(*overrides):
    return load_recipe("lab-miro", ["images=240", "rewards=[aesthetic,shadow]", "sampling={}", *overrides])


def feed(*overrides, rank=0, world_size=1):
    return open_share(recipe(*overrides), SOURCE, Group(rank, world_size))


def tensors(batch):
    c = batch.condition
    return [batch.latent, batch.noise, batch.time, c.text, c.text_mask, c.level, c.known]


def joined(batches):
    return [torch.cat(parts) for parts in zip(*map(tensors, batches), strict=True)]


def all_equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@settings(deadline=None, max_examples=15)
@given(batch_size=st.sampled_from([2, 4, 6, 12, 24]), step=st.integers(0, 4))
def test_what_a_position_sees_does_not_depend_on_the_batch_size(batch_size, step):
    whole = joined([feed("batch_size=120")[0]])
    part = feed(f"batch_size={batch_size}")[step]
    rows = slice(step * batch_size, (step + 1) * batch_size)
    assert all_equal(tensors(part), [t[rows] for t in whole])
    assert part.keys == tuple(f"random-{p}" for p in range(rows.start, rows.stop))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_the_batch_without_gap_or_overlap(world_size):
    alone = feed("batch_size=12")[3]
    shares = [feed("batch_size=12", rank=r, world_size=world_size)[3] for r in range(world_size)]
    assert all_equal(joined(shares), tensors(alone))
    assert sum((s.keys for s in shares), ()) == alone.keys


def test_another_seed_is_another_run():
    one, other = feed("batch_size=12")[0], feed("batch_size=12", "seed=1")[0]
    assert not torch.equal(one.noise, other.noise)
    assert not torch.equal(one.time, other.time)


def test_workers_deliver_the_same_batches_in_order():
    expected = [feed("batch_size=60")[i] for i in range(1, 4)]
    found = list(feed("batch_size=60", "num_data_workers=2").from_step(1, torch.device("cpu")))
    assert len(found) == 3
    assert all(all_equal(tensors(a), tensors(b)) and a.keys == b.keys for a, b in zip(found, expected, strict=True))


def test_noise_is_standard_normal_and_times_cover_their_distribution():
    batch = feed("batch_size=240")[0]
    assert batch.noise.mean().abs() < 4 / batch.noise.numel() ** 0.5
    assert batch.noise.std() == pytest.approx(1, abs=0.05)
    # Times are the distribution's quantiles at evenly spread places: half of them lie below the median 0.5.
    assert (batch.time < 0.5).float().mean() == pytest.approx(0.5, abs=0.02)
    assert 0 < batch.time.min() < batch.time.max() < 1


def test_random_samples_are_a_function_of_the_position():
    positions = np.array([7, 3, 10**9])
    together = SOURCE.samples(positions)
    for row, position in enumerate(positions):
        alone = SOURCE.samples(np.array([position]))
        assert torch.equal(alone.latent[0], together.latent[row])
        assert torch.equal(alone.condition.text[0], together.condition.text[row])
    assert together.condition.text_mask.any(1).all()
    assert RandomSource((1, 2, 2), text_dim=5, vocabulary_size=None).samples(positions).condition.text.shape == (
        3,
        8,
        5,
    )
