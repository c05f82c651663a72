import math

import pytest
import torch

from openmiro.models.embedders import RewardEmbedder, TextEmbedder, TimeEmbedder, fourier_features, trim_padding


def test_fourier_features_are_cos_and_sin_of_known_frequencies():
    x = torch.tensor([0.0, 0.25, 1.0])
    features = fourier_features(x, 4, max_frequency=100.0)
    expected = torch.stack([x.cos(), (100 * x).cos(), x.sin(), (100 * x).sin()], dim=1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


def test_fourier_features_tell_neighboring_levels_apart():
    """64 levels must stay distinguishable: neighbors differ clearly at the embedder's highest frequency."""
    features = fourier_features(torch.linspace(0, 1, 64), 32, 64.0)
    assert (features[1:] - features[:-1]).norm(dim=1).min() > 0.3


@pytest.fixture
def embedder():
    torch.manual_seed(0)
    return RewardEmbedder(3, 16)


def test_one_token_per_reward(embedder):
    tokens = embedder(torch.rand(5, 3), torch.ones(5, 3, dtype=torch.bool))
    assert tokens.shape == (5, 3, 16)


def test_each_reward_has_its_own_map(embedder):
    tokens = embedder(torch.full((1, 3), 0.5), torch.ones(1, 3, dtype=torch.bool)) - embedder.position
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


@pytest.mark.parametrize("garbage", [0.0, 1.0, -7.0, math.nan, math.inf])
def test_unknown_level_has_no_effect_on_value_or_gradient(embedder, garbage):
    level, known = torch.tensor([[0.5, garbage, 0.1]]), torch.tensor([[True, False, True]])
    tokens = embedder(level, known)
    reference = embedder(torch.tensor([[0.5, 0.3, 0.1]]), known)
    assert torch.equal(tokens, reference)
    torch.testing.assert_close(tokens[0, 1], embedder.unknown_token[1] + embedder.position[1])
    tokens.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in embedder.parameters())
    assert embedder.first.grad is not None
    assert embedder.first.grad[1].abs().max() == 0


def test_known_level_has_an_effect(embedder):
    known = torch.ones(2, 3, dtype=torch.bool)
    tokens = embedder(torch.tensor([[0.2] * 3, [0.8] * 3]), known)
    assert (tokens[0] - tokens[1]).abs().amax(1).min() > 0.01


def test_text_embedder_of_ids_and_of_features():
    ids = TextEmbedder(8, 5, vocabulary_size=10)
    assert ids(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, 8)
    features = TextEmbedder(8, 5, feature_width=6)
    assert features(torch.zeros(2, 5, 6)).shape == (2, 5, 8)


def test_order_of_words_matters():
    embed = TextEmbedder(8, 5, vocabulary_size=10)
    swapped = embed(torch.tensor([[1, 2], [2, 1]]))
    assert not torch.allclose(swapped[0].flip(0), swapped[1])


def test_time_embedder_separates_times():
    embed = TimeEmbedder(16)
    out = embed(torch.tensor([0.1, 0.11, 0.9]))
    assert out.shape == (3, 16)
    assert not torch.allclose(out[0], out[1], atol=1e-4)


def test_trimming_drops_only_what_nobody_uses():
    text = torch.arange(10).view(2, 5)
    mask = torch.tensor([[True, False, False, False, False], [True, False, True, False, False]])
    trimmed, left = trim_padding(text, mask)
    assert torch.equal(trimmed, text[:, :3])
    assert torch.equal(left, mask[:, :3])
    nothing, none = trim_padding(text, torch.zeros_like(mask))
    assert nothing.shape == none.shape == (2, 0)
