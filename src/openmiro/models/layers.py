"""Building blocks shared by the backbones: normalization, attention and the feed-forward with optional locality."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Matrix(nn.Linear):
    """A linear map inside a block, the kind of weight that Muon treats as a matrix.

    Args:
        in_features, out_features: as of `nn.Linear`.
        bias: whether there is one.
        num_parts: how many independent maps are stacked along the output axis (3 for fused query, key and value), so
            that the optimizer can treat each on its own.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False, num_parts: int = 1) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.weight.muon_parts = num_parts  # type: ignore[attr-defined]
        nn.init.trunc_normal_(self.weight, std=in_features**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def rms_norm(x: Tensor) -> Tensor:
    """x divided by the root mean square of its last axis."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, N, D] scaled by 1 + scale and shifted; shift and scale [B, D]."""
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of q [B, H, N, d] over k, v [B, H, M, d]; bias is added to the logits.

    On the CPU it is two matrix products and a softmax: the backward pass of the fused kernel is several times slower
    there in bf16 at a few dozen tokens.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias.to(logits.dtype)
    return logits.softmax(-1) @ v


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, N, D] -> [B, H, N, D / H]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, N, d] -> [B, N, H d]."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of tokens among themselves, with normalized queries and keys."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Matrix(width, 3 * width, num_parts=3)
        self.out = Matrix(width, width)
        self.query_norm = HeadNorm(width // num_heads)
        self.key_norm = HeadNorm(width // num_heads)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(merge_heads(attend(self.query_norm(q), self.key_norm(k), v, bias)))


class HeadNorm(nn.Module):
    """Root-mean-square normalization of each head with a learned gain (QK-norm): keeps logits bounded."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(head_width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) * self.gain.to(x.dtype)


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
        self.up = Matrix(width, hidden, bias=True)
        self.down = Matrix(hidden, width, bias=True)
        self.local = GridConv(hidden, grid) if grid else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.local is not None:
            hidden = hidden + self.local(hidden)
        return self.down(F.gelu(hidden, approximate="tanh"))


class GridConv(nn.Module):
    """3x3 depthwise convolution over tokens [B, h w, D] that lie on a grid."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(torch.randn(width, 1, 3, 3) / 3.0)

    def forward(self, x: Tensor) -> Tensor:
        picture = x.unflatten(1, self.grid).permute(0, 3, 1, 2)  # channels last in memory, no copy
        out = F.conv2d(picture, self.weight.to(x.dtype), padding=1, groups=x.shape[-1])
        return out.permute(0, 2, 3, 1).flatten(1, 2)
