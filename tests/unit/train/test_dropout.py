import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core.types import Condition
from openmiro.train.dropout import condition_dropout
from openmiro.train.recipe import DropoutSettings


def conditions(size, num_rewards=3, known=True):
    text = torch.arange(size * 4).view(size, 4)
    mask = torch.tensor([True, True, True, False]).expand(size, 4)
    return Condition(text, mask, torch.rand(size, num_rewards), torch.full((size, num_rewards), known))


def test_shares_are_those_asked_for():
    size = 20_000
    settings = DropoutSettings(text=0.1, reward=0.2, all_rewards=0.25)
    dropped = condition_dropout(conditions(size), range(size), 0, settings)
    tolerance = 4 * 0.5 / size**0.5
    assert (~dropped.text_mask.any(1)).double().mean().item() == pytest.approx(0.1, abs=tolerance)
    assert dropped.known.double().mean(0).numpy() == pytest.approx(np.full(3, 0.8 * 0.75), abs=tolerance)
    # With all rewards known with probability 0.75 * 0.8^3, and none with 0.25 + 0.75 * 0.2^3.
    assert dropped.known.all(1).double().mean().item() == pytest.approx(0.75 * 0.8**3, abs=tolerance)
    assert (~dropped.known.any(1)).double().mean().item() == pytest.approx(0.25 + 0.75 * 0.2**3, abs=tolerance)


def test_text_and_rewards_are_dropped_independently():
    size = 20_000
    dropped = condition_dropout(conditions(size), range(size), 0, DropoutSettings(text=0.5, reward=0.5, all_rewards=0))
    signs = np.stack([dropped.text_mask.any(1).numpy(), *dropped.known.T.numpy()]).astype(float)
    correlation = np.corrcoef(signs) - np.eye(4)
    assert np.abs(correlation).max() < 4 / size**0.5


@given(positions=st.lists(st.integers(0, 2**40), min_size=1, max_size=20), seed=st.integers(0, 2**31))
def test_a_row_depends_on_its_own_position_only(positions, seed):
    settings = DropoutSettings(text=0.3, reward=0.4, all_rewards=0.2)
    whole = condition_dropout(conditions(len(positions)), positions, seed, settings)
    for row, position in enumerate(positions):
        alone = condition_dropout(conditions(1), [position], seed, settings)
        assert torch.equal(alone.text_mask[0], whole.text_mask[row])
        assert torch.equal(alone.known[0], whole.known[row])


def test_what_is_unknown_stays_unknown():
    dropped = condition_dropout(conditions(50, known=False), range(50), 0, DropoutSettings(reward=0, all_rewards=0))
    assert not dropped.known.any()


def test_nothing_is_dropped_at_zero_and_everything_at_one():
    given_ = conditions(64)
    kept = condition_dropout(given_, range(64), 3, DropoutSettings(text=0, reward=0, all_rewards=0))
    assert torch.equal(kept.text_mask, given_.text_mask)
    assert torch.equal(kept.known, given_.known)
    gone = condition_dropout(given_, range(64), 3, DropoutSettings(text=1, reward=1, all_rewards=0))
    assert not gone.text_mask.any()
    assert not gone.known.any()


def test_without_rewards():
    dropped = condition_dropout(conditions(8, num_rewards=0), range(8), 0, DropoutSettings())
    assert dropped.known.shape == (8, 0)
