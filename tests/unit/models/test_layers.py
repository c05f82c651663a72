import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.models.layers import Attention, FeedForward, GridConv, Matrix, QueryKeyNorm, attend, normalize


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attend_equals_softmax_attention():
    q, k, v = draw(2, 3, 5, 4), draw(2, 3, 7, 4, seed=1), draw(2, 3, 7, 4, seed=2)
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v, scale=1.0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_absent_keys_equal_a_mask(flags):
    present = torch.tensor([[True, *flags]]).double()[:, None, :, None]
    q, k, v = draw(1, 2, 3, 4), draw(1, 2, 7, 4, seed=1), draw(1, 2, 7, 4, seed=2)
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=present.transpose(2, 3).bool(), scale=1.0)
    torch.testing.assert_close(attend(q, k, v * present, present), masked)


def test_gradients_of_attend_match_softmax_attention_under_a_mask():
    present = torch.tensor([1.0, 1, 0, 1, 0], dtype=torch.float64)[None, None, :, None]
    gradients = []
    for attention in ("own", "torch"):
        q, k, v = (draw(1, 2, 5, 4, seed=s).requires_grad_() for s in range(3))
        if attention == "own":
            out = attend(q, k, v * present, present)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=present.transpose(2, 3).bool(), scale=1.0)
        gradients.append(torch.autograd.grad((out * draw(1, 2, 5, 4, seed=9)).sum(), (q, k, v)))
    for own, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(own, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_stay_bounded_whatever_the_inputs_and_the_scale(dtype):
    norm = QueryKeyNorm(2, 8)
    with torch.no_grad():
        norm.scale.fill_(1e6)
    direction = torch.randn(1, 1, 8).to(dtype)
    q, k = norm((1e4 * direction).repeat(1, 3, 4))
    v = torch.randn(1, 2, 3, 8).to(dtype)
    out = attend(q, k, v)
    assert (q @ k.mT).abs().max() <= 71
    assert torch.isfinite(out).all()


def test_normalize_has_unit_variance_and_keeps_the_type():
    x = normalize(torch.randn(4, 64) * 30 + 5)
    torch.testing.assert_close(x.std(-1, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert normalize(torch.randn(2, 8).bfloat16()).dtype == torch.bfloat16


def test_grid_convolution_is_local_and_depthwise():
    conv = GridConv(2, (4, 4))
    x = torch.zeros(1, 16, 2)
    x[0, 5, 1] = 1.0  # row 1, column 1, channel 1
    out = conv(x)[0].unflatten(0, (4, 4))
    assert out[..., 0].abs().max() == 0
    touched = out[..., 1].abs() > 0
    assert touched[:3, :3].all()
    assert touched.sum() == 9


def test_feed_forward_without_a_grid_treats_tokens_alike():
    layer = FeedForward(8, 2.0)
    x = torch.randn(1, 5, 8)
    torch.testing.assert_close(layer(x)[:, 2], layer(x[:, 2:3])[:, 0])


def test_attention_to_a_context_is_attention_over_both():
    torch.manual_seed(0)
    attention = Attention(8, 2)
    x = torch.randn(2, 6, 8)
    # The same tokens, given once as tokens and once as a context of their own keys and values.
    queries_and_keys, v = attention.qkv(x).split([16, 8], dim=-1)
    keys = attention.norm(queries_and_keys)[1]
    values = v.unflatten(-1, (2, 4)).transpose(1, 2)
    with_context = attention(x[:, :4], (keys[:, :, 4:], values[:, :, 4:]))
    torch.testing.assert_close(with_context, attention(x)[:, :4], atol=1e-6, rtol=1e-5)


def test_matrices_are_tagged_for_muon():
    assert Matrix(4, 12, num_parts=3).weight.muon_parts == 3
