import pytest
import torch

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.core.types import CaptionKind, Condition, LatentBatch, RewardSet, RewardSpec, batched


def spec(name, needs_text=False):
    return RewardSpec(name=name, unit="points", needs_text=needs_text, version="1")


def condition(num=3, rewards=2):
    return Condition(
        text=torch.arange(num * 4).reshape(num, 4),
        text_mask=torch.ones(num, 4, dtype=torch.bool),
        level=torch.rand(num, rewards),
        known=torch.ones(num, rewards, dtype=torch.bool),
    )


def test_reward_set_keeps_its_order_and_lists_itself_when_asked_for_another():
    rewards = RewardSet(specs=(spec("b"), spec("a")))
    assert rewards.names == ("b", "a")
    assert rewards.index("a") == 1
    with pytest.raises(UnknownNameError, match="Choices: a, b"):
        rewards.index("c")


def test_reward_set_refuses_a_name_twice():
    with pytest.raises(ConfigError, match="twice"):
        RewardSet(specs=(spec("a"), spec("a")))


def test_columns_follow_the_captions_only_where_the_reward_reads_text():
    assert spec("a").columns == ("image",)
    assert spec("a", True).columns == ("original", "synthetic")
    assert spec("a").column(CaptionKind.SYNTHETIC) == "image"
    assert spec("a", True).column(CaptionKind.SYNTHETIC) == "synthetic"


def test_null_text_and_unknown_change_nothing_else():
    c = condition()
    assert not c.null_text().text_mask.any()
    torch.testing.assert_close(c.null_text().level, c.level)
    assert not c.unknown().known.any()
    assert c.unknown().text_mask.all()


def test_cat_and_rows_are_inverse():
    c = condition(4)
    again = Condition.cat([c[:1], c[1:]])
    for name in ("text", "text_mask", "level", "known"):
        torch.testing.assert_close(getattr(again, name), getattr(c, name))
    assert len(again) == 4


def test_batch_slices_every_member():
    batch = LatentBatch(torch.rand(3, 1, 2, 2), condition(3), torch.rand(3, 1, 2, 2), torch.rand(3), ("a", "b", "c"))
    part = batch[1:]
    assert (len(part), part.keys, len(part.condition)) == (2, ("b", "c"), 2)
    torch.testing.assert_close(part.noise, batch.noise[1:])


def test_batched_keeps_every_item_in_order():
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
