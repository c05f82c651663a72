"""Time, rewards and text as vectors of the model's width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fourier_features(x: Tensor, num_features: int, max_frequency: float) -> Tensor:
    """cos and sin of x [...] at geometrically spaced angular frequencies from 1 to max_frequency: [..., F]."""
    half = num_features // 2
    exponent = torch.arange(half, dtype=torch.float32, device=x.device) / max(half - 1, 1)
    angle = x.float().unsqueeze(-1) * torch.exp(math.log(max_frequency) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Fourier features of t [B] -> MLP -> [B, D]."""

    def __init__(self, width: int, num_features: int = 128, max_frequency: float = 500.0) -> None:
        super().__init__()
        self.num_features, self.max_frequency = num_features, max_frequency
        self.mlp = nn.Sequential(nn.Linear(num_features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(fourier_features(t, self.num_features, self.max_frequency))


class RewardEmbedder(nn.Module):
    """One token per reward: Fourier features of its level through the reward's own MLP, plus its learned position.

    Where a level is not known the reward's learned *unknown* token stands instead, and neither the level's value nor
    its gradient reaches anything.

    Args:
        num_rewards: R, may be 0.
        width: D.
    """

    def __init__(self, num_rewards: int, width: int, num_features: int = 32, max_frequency: float = 64.0) -> None:
        super().__init__()
        self.num_features, self.max_frequency = num_features, max_frequency
        self.first = nn.Parameter(torch.randn(num_rewards, num_features, width) * num_features**-0.5)
        self.first_bias = nn.Parameter(torch.zeros(num_rewards, 1, width))
        self.second = nn.Parameter(torch.randn(num_rewards, width, width) * width**-0.5)
        self.position = nn.Parameter(torch.randn(num_rewards, width) * 0.5)
        self.unknown_token = nn.Parameter(torch.randn(num_rewards, width) * 0.5)

    def forward(self, level: Tensor, known: Tensor) -> Tensor:
        """Tokens [B, R, D] of level float [B, R] and known bool [B, R]."""
        # The value is replaced before any arithmetic: a NaN behind known = False must not enter the gradient.
        level = torch.where(known, level, 0.0)
        features = fourier_features(level, self.num_features, self.max_frequency).transpose(0, 1)
        hidden = F.silu(torch.baddbmm(self.first_bias, features, self.first))
        tokens = torch.bmm(hidden, self.second).transpose(0, 1)
        return torch.where(known.unsqueeze(-1), tokens, self.unknown_token) + self.position


class TextEmbedder(nn.Module):
    """Tokens [B, L, D] of frozen features (a linear map) or of word ids (an embedding), with learned positions.

    Args:
        width: D.
        max_tokens: longest L.
        feature_width: of frozen features; None for ids.
        vocabulary_size: number of ids; None for features.
    """

    def __init__(
        self, width: int, max_tokens: int, feature_width: int | None = None, vocabulary_size: int | None = None
    ) -> None:
        super().__init__()
        if vocabulary_size is not None:
            self.embed: nn.Module = nn.Embedding(vocabulary_size, width)
        else:
            assert feature_width is not None
            self.embed = nn.Linear(feature_width, width)
        self.position = nn.Parameter(torch.randn(max_tokens, width) * 0.5)

    def forward(self, text: Tensor) -> Tensor:
        return self.embed(text) + self.position[: text.shape[1]]


def trim_padding(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Text [B, L, ...] and mask [B, L] without the columns behind the batch's last word.

    Only on the CPU in eager mode: elsewhere a size that depends on the data costs a synchronization or a recompilation.
    """
    if mask.device.type != "cpu" or torch.compiler.is_compiling():
        return text, mask
    used = mask.any(0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 0
    return text[:, :length], mask[:, :length]
