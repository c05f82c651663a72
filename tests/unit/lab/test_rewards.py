from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from openmiro.core.types import RewardModel
from openmiro.lab import rewards
from openmiro.lab.captions import full_claim, short_wording, with_wrong_attribute
from openmiro.lab.scenes import LabSettings, Quality, Scene, Shadow, Shape, Tag, render, sample_scene
from openmiro.lab.shards import sample_pair
from openmiro.rewards.base import score_pairs
from openmiro.rewards.catalog import REWARD_SETS, resolve_rewards
from openmiro.rewards.conformance import check_reward

PAIRS = [sample_pair(i, 9, LabSettings()) for i in range(400)]
IMAGES = [render(p.scene) for p in PAIRS]
PLAIN = Scene(Tag.COLORS, (Shape("square", "red", 0.5, 0.5, 0.5),), "single", "gray")
TEXT_REWARDS = (rewards.Alignment, rewards.Similarity, rewards.PreferenceA, rewards.PreferenceB)


def one(model: RewardModel, scene: Scene, text: str = "") -> float:
    return float(score_pairs(model, [render(scene)], [text])[0])


@pytest.mark.parametrize("name", REWARD_SETS["lab"])
def test_conformance(name):
    assert check_reward(name) == []


@pytest.mark.parametrize("name", REWARD_SETS["lab"])
def test_scores_are_spread_out_and_within_their_range(name):
    (model,) = resolve_rewards([name])
    scores = score_pairs(model, IMAGES, [p.captions.original for p in PAIRS])
    assert scores.dtype == np.float32
    assert len(np.unique(scores)) > 0.9 * len(scores)
    # No tenth of the pictures shares a hundredth of the range.
    counts = np.histogram(scores, bins=100)[0]
    assert counts.max() < (0.35 if name == "alignment" else 0.12) * len(scores)
    if model.spec.low is not None:
        assert scores.min() >= model.spec.low
    if model.spec.high is not None:
        assert scores.max() <= model.spec.high


@pytest.mark.parametrize("name", REWARD_SETS["lab"])
def test_scores_do_not_depend_on_the_batch(name):
    (model,) = resolve_rewards([name])
    texts = [p.captions.original for p in PAIRS[:40]]
    whole = score_pairs(model, IMAGES[:40], texts, batch_size=40)
    np.testing.assert_array_equal(whole, score_pairs(model, IMAGES[:40], texts, batch_size=7))


@pytest.mark.parametrize("defect", ["blur", "noise"])
def test_sharpness_falls_with_every_degree_of_a_defect(defect):
    degrees = [0.0, 0.5, 1.0, 1.5] if defect == "blur" else [0.0, 6.0, 12.0, 24.0]
    scores = [one(rewards.Sharpness(), replace(PLAIN, quality=Quality(**{defect: d}))) for d in degrees]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.6 * scores[0]


def test_aesthetic_likes_color_contrast_and_balance_and_nothing_else():
    model = rewards.Aesthetic()
    plain = one(model, PLAIN)
    assert one(model, replace(PLAIN, quality=Quality(saturation=0.3))) < plain
    assert one(model, replace(PLAIN, quality=Quality(contrast=0.4))) < plain
    assert one(model, replace(PLAIN, objects=(Shape("square", "red", 0.25, 0.3, 0.5),))) < plain
    # It can be hacked: more of a vivid color beats any better picture.
    loud = replace(PLAIN, objects=(Shape("square", "red", 0.5, 0.5, 0.9),), ground="white")
    assert one(model, loud) > plain


def test_shadow_knows_the_right_side():
    model = rewards.Shadow()
    sides = {
        (dx, dy): one(model, replace(PLAIN, shadow=Shadow(dx, dy, 0.5))) for dx in (-0.09, 0.09) for dy in (-0.09, 0.09)
    }
    proper = sides.pop((0.09, 0.09))
    assert proper > 0.15 > -0.15 > max(sides.values())
    assert abs(one(model, PLAIN)) < 0.05
    # Told apart on ordinary pictures as well: nine in ten by the sign, with a margin for no shadow.
    scores = score_pairs(model, IMAGES)
    proper = np.array([p.scene.shadow is not None and p.scene.shadow.proper for p in PAIRS])
    assert ((scores > 0.08) == proper).mean() > 0.9


def test_alignment_prefers_the_truth():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, LabSettings(), clean=True) for _ in range(300)]
    images = [render(s) for s in scenes]
    claims = [full_claim(s) for s in scenes]
    false = [with_wrong_attribute(c, s, rng, LabSettings()) for c, s in zip(claims, scenes)]
    model = rewards.Alignment()
    right = score_pairs(model, images, [short_wording(c) for c in claims])
    wrong = score_pairs(model, images, [short_wording(c) for c in false])
    assert (right > wrong).mean() > 0.99
    assert np.median(right) > 0.85
    assert np.median(wrong) < 0.5
    # An unreadable caption is neither true nor false.
    assert one(model, PLAIN, "a dog on the beach") == 0.5


def test_alignment_gives_credit_for_the_color_alone():
    model = rewards.Alignment()
    shape_and_color, color_only, neither = (
        one(model, PLAIN, f"a {t}") for t in ("red square", "red ring", "blue ring")
    )
    assert shape_and_color > color_only + 0.2 > neither + 0.3


def test_similarity_is_an_imperfect_proxy():
    rng = np.random.default_rng(1)
    settings = LabSettings(degraded=0)
    scenes = [sample_scene(rng, settings, Tag.POSITION) for _ in range(200)]
    images, claims = [render(s) for s in scenes], [full_claim(s) for s in scenes]
    model = rewards.Similarity()
    right = score_pairs(model, images, [short_wording(c) for c in claims])
    others = score_pairs(model, images, [short_wording(c) for c in claims[1:] + claims[:1]])
    turned = score_pairs(model, images, [short_wording(replace(c, relation=_opposite(c.relation))) for c in claims])
    assert (right > others).mean() > 0.95
    assert (right > turned).mean() < 0.75  # as CLIP, it hardly knows where things are


def _opposite(relation):
    return {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]


def test_preferences_weigh_differently_and_have_lasting_luck():
    texts = [p.captions.short_synthetic for p in PAIRS]
    a, b = (score_pairs(m, IMAGES, texts) for m in (rewards.PreferenceA(), rewards.PreferenceB()))
    alignment = score_pairs(rewards.Alignment(), IMAGES, texts)
    aesthetic = score_pairs(rewards.Aesthetic(), IMAGES)
    assert _partial(a, alignment) > _partial(b, alignment)
    assert _partial(b, aesthetic) > _partial(a, aesthetic)
    assert 0.2 < np.corrcoef(a, b)[0, 1] < 0.95
    # The luck is the picture's own: one changed pixel draws another.
    pixels = np.asarray(IMAGES[0]).copy()
    pixels[0, 0, 0] ^= 1
    model = rewards.PreferenceB()
    first, again, other = score_pairs(model, [IMAGES[0], IMAGES[0].copy(), Image.fromarray(pixels)], [texts[0]] * 3)
    assert first == again != other


def _partial(votes, ingredient):
    return np.corrcoef(votes, ingredient)[0, 1]


@pytest.mark.parametrize("model_class", TEXT_REWARDS)
def test_one_encoding_serves_every_caption(model_class):
    model = model_class()
    features = model.encode_images(torch.stack([model.preprocess(i) for i in IMAGES[:3]]))
    original = [p.captions.original for p in PAIRS[:3]]
    np.testing.assert_array_equal(model.score(features, original).numpy(), score_pairs(model, IMAGES[:3], original))


def test_quality_rewards_are_in_partial_conflict():
    aesthetic, sharpness, shadow = (
        score_pairs(m, IMAGES) for m in (rewards.Aesthetic(), rewards.Sharpness(), rewards.Shadow())
    )
    correlations = np.corrcoef([aesthetic, sharpness, shadow])
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() < 0.4
