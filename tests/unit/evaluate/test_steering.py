import numpy as np
import pytest
from PIL import Image

from openmiro.core.errors import ConfigError
from openmiro.evaluate.steering import (
    Arm,
    Strip,
    bootstrap_difference,
    measure_strip,
    overall_difference,
)
from openmiro.rewards.classical import Contrast
from openmiro.rewards.levels import ScoreColumn, fit_level_table


def test_paired_difference_ignores_what_pairs_share():
    shared = np.random.default_rng(0).normal(scale=100, size=200)
    found = bootstrap_difference(shared + 1, shared)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    with pytest.raises(ConfigError, match="one length"):
        bootstrap_difference([1], [1, 2])


def gray(value):
    rows = np.where(np.arange(16)[:, None, None] % 2, 128 + value, 128 - value)
    return Image.fromarray(np.broadcast_to(rows, (16, 16, 3)).astype(np.uint8))


def test_strip_measures_what_the_model_draws():
    model = Contrast()
    scores = np.linspace(0, 0.5, 101, dtype=np.float32)
    table = fit_level_table(ScoreColumn(model.spec, lambda: iter([scores])), num_bins=11)
    asked = []

    def draw(prompts, seeds, targets):
        asked.append(targets)
        return [gray(20 + 80 * targets["contrast"] + seed) for seed in seeds]

    strip, pictures = measure_strip(draw, model, table, ["a", "b", "c"], [1, 2, 3])
    assert asked == [{"contrast": a} for a in (0, 0.25, 0.5, 0.75, 1)]
    assert (len(pictures), len(pictures[0]), strip.num_pictures) == (5, 3, 15)
    assert strip.mean_rank_correlation == pytest.approx(1)
    assert strip.rank_correlation == pytest.approx(1)
    # Perfectly separated: five tied groups of three, whose correlation with 15 distinct ranks is this closed form.
    assert strip.pooled_rank_correlation == pytest.approx(np.sqrt((15**2 - 3**2) / (15**2 - 1)))
    assert [m.value for m in strip.raw_means] == sorted(m.value for m in strip.raw_means)
    assert strip.wanted == pytest.approx([table.inverse(a) for a in strip.asked])
    assert Strip.parse(strip.dump()) == strip


def test_strips_of_prompts_with_another_base_are_not_mixed_up():
    obtained = tuple(tuple(a + base for base in (0, 10, 20)) for a in (0, 1, 2))
    flat = tuple((*row, 5.0) for row in obtained)
    strip = Strip(reward="r", unit="u", asked=(0, 0.5, 1), wanted=(0, 1, 2), obtained=flat, levels=flat)
    assert strip.rank_correlation == pytest.approx(1)  # the prompt that never changes is left out
    assert strip.pooled_rank_correlation < 0.5


def test_strip_must_be_rectangular():
    with pytest.raises(ConfigError, match="as many scores"):
        Strip.parse({"reward": "r", "unit": "u", "asked": [0, 1], "wanted": [0, 1], "obtained": [[1], [1, 2]],
                     "levels": [[0], [0, 1]]})  # fmt: skip


def arm(name, correct, tags, scores=()):
    return Arm(name=name, correct=correct, tags=tags, color=(True, None) * (len(tags) // 2), scores=dict(scores))


def test_arm_weights_tags_equally():
    tags = ("single", "single", "single", "single", "two", "two")
    found = arm("a", (True, True, True, False, False, False), tags, {"r": (1.0,) * 6})
    assert found.tag_names == ["single", "two"]
    assert found.tag("single").value == 0.75
    assert found.overall.value == pytest.approx(0.375)
    assert found.requested_color.value == 1
    assert found.reward("r").value == 1
    assert Arm.parse(found.dump()) == found


def test_overall_difference_weights_tags_equally():
    tags = ("single",) * 90 + ("two",) * 10
    first = arm("a", (True,) * 90 + (False,) * 10, tags)
    second = arm("b", (False,) * 90 + (False,) * 10, tags)
    assert overall_difference(first, second).value == pytest.approx(0.5)
    same = overall_difference(first, first)
    assert (same.low, same.high) == (0, 0)
    with pytest.raises(ConfigError, match="same prompts"):
        overall_difference(first, arm("c", (True, False), ("two", "two")))
