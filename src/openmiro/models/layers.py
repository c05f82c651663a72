"""Building blocks shared by the backbones: normalization, attention and the feed-forward with optional locality.

Written for few and cheap operations: on a CPU core in bf16 the matrix products of a small model take half a step, so
that every pass over the activations in between is worth saving (see docs/experiments/lab-learning.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGEST_LOGIT = 70.0


class Matrix(nn.Linear):
    """A linear map inside a block, the kind of weight that Muon treats as a matrix.

    Args:
        in_features, out_features: as of `nn.Linear`; there is no bias.
        num_parts: how many independent maps are stacked along the output axis (3 for fused query, key and value), so
            that the optimizer can treat each on its own.
    """

    def __init__(self, in_features: int, out_features: int, num_parts: int = 1) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.weight.muon_parts = num_parts  # type: ignore[attr-defined]
        nn.init.trunc_normal_(self.weight, std=in_features**-0.5)


def compute_dtype(device: torch.device, default: torch.dtype = torch.float32) -> torch.dtype:
    """The autocast type where autocast is on, else `default`: the type in which activations travel."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return default


def normalize(x: Tensor) -> Tensor:
    """x with mean 0 and variance 1 along its last axis; gains belong to the maps around it."""
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6).to(x.dtype)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, N, H d] -> [B, H, N, d]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, N, d] -> [B, N, H d]."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, present: Tensor | None = None) -> Tensor:
    """Attention of q [B, H, N, d] over k, v [B, H, M, d] with logits q k^T (the scale is part of q).

    Args:
        q: queries whose logits stay below 70 in absolute value, as `QueryKeyNorm` makes them.
        k, v: keys and values; values must be 0 where a key is absent.
        present: [B, 1, M, 1], 1 where there is a key and 0 where not; None where all are.

    On the CPU the bounded logits are exponentiated without looking for their maximum, and a column of ones behind the
    values collects the denominator: two matrix products and one exponential. There, the backward pass of the fused
    kernel and the softmax are several times slower in bf16 at a few dozen tokens. Absent keys need no mask that way:
    they add 0 to numerator and denominator.
    """
    if q.is_cuda:
        mask = None if present is None else present.transpose(2, 3).bool()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    column = v.new_ones(()) if present is None else present
    sums = (q @ k.transpose(-1, -2)).exp() @ torch.cat([v, column.expand(*v.shape[:-1], 1)], dim=-1)
    return sums[..., :-1] / sums[..., -1:]


class QueryKeyNorm(nn.Module):
    """Normalizes each head of queries and keys and gives the queries a learned scale per head, which bounds logits."""

    def __init__(self, num_heads: int, head_width: int) -> None:
        super().__init__()
        self.num_heads, self.head_width = num_heads, head_width
        self.scale = nn.Parameter(torch.full((num_heads, 1, 1), head_width**-0.5))

    def forward(self, queries_and_keys: Tensor) -> tuple[Tensor, Tensor]:
        """q, k [B, H, N, d] of the fused projection [B, N, 2 H d]."""
        heads = normalize(split_heads(queries_and_keys, 2 * self.num_heads))
        # |q k| <= d scale for normalized vectors.
        scale = self.scale.clamp(max=_LARGEST_LOGIT / self.head_width).to(heads.dtype)
        return heads[:, : self.num_heads] * scale, heads[:, self.num_heads :]


class Attention(nn.Module):
    """Attention of tokens among themselves and, where given, to a context, under one softmax."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.width, self.num_heads = width, num_heads
        self.qkv = Matrix(width, 3 * width, num_parts=3)
        self.norm = QueryKeyNorm(num_heads, width // num_heads)
        self.out = Matrix(width, width)

    def forward(self, x: Tensor, context: tuple[Tensor, Tensor] | None = None, present: Tensor | None = None) -> Tensor:
        """x [B, N, D]; context keys and values [B, H, M, d]; present [B, 1, N + M, 1], or [B, 1, N, 1] without context.

        Without a context, `present` masks the tokens themselves.
        """
        queries_and_keys, v = self.qkv(x).split([2 * self.width, self.width], dim=-1)
        q, k = self.norm(queries_and_keys)
        v = split_heads(v, self.num_heads)
        if context is not None:
            k, v = torch.cat([k, context[0]], dim=2), torch.cat([v, context[1]], dim=2)
        elif present is not None:
            v = v * present
        return self.out(merge_heads(attend(q, k, v, present)))


class FeedForward(nn.Module):
    """Two matrices around a GELU; with a grid, a 3x3 depthwise convolution gives the hidden units locality.

    Args:
        width: of the tokens.
        ratio: hidden units per unit of width.
        grid: (height, width) of the patch grid, or None for tokens without one.
    """

    def __init__(self, width: int, ratio: float, grid: tuple[int, int] | None = None) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.up = Matrix(width, hidden)
        self.local = GridConv(hidden, grid) if grid else None
        self.down = Matrix(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.local is not None:
            hidden = hidden + self.local(hidden)
        # The exact GELU: the tanh approximation is six times slower on the CPU in bf16.
        return self.down(F.gelu(hidden))


class GridConv(nn.Module):
    """3x3 depthwise convolution over tokens [B, h w, D] that lie on a grid."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(torch.randn(width, 1, 3, 3) / 3.0)

    def forward(self, x: Tensor) -> Tensor:
        picture = x.unflatten(1, self.grid).permute(0, 3, 1, 2)  # channels last in memory, no copy
        out = F.conv2d(picture, self.weight, padding=1, groups=x.shape[-1])
        return out.permute(0, 2, 3, 1).flatten(1, 2)
