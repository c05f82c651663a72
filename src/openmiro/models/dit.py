"""A diffusion transformer that is told its text and its reward levels as tokens.

Image tokens attend to themselves under time modulation, then to condition tokens: words, one token per reward, and
registers. Those are mixed among themselves, and turned into every block's keys and values, once in `prepare`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError
from openmiro.core.types import Condition, DenoiserOutput
from openmiro.models.embedders import RewardEmbedder, TextEmbedder, TimeEmbedder
from openmiro.models.layers import (
    FeedForward,
    HeadNorm,
    Matrix,
    SelfAttention,
    attend,
    merge_heads,
    modulate,
    rms_norm,
    split_heads,
)


class DiTConfig(Config):
    """Size and inputs of a `DiT`.

    Attributes:
        latent_shape: (C, H, W).
        num_rewards: R; 0 for a model without reward conditioning.
        text_dim: width of frozen text features; None with vocabulary_size.
        vocabulary_size: number of word ids of a text embedding trained with the model; None with text_dim.
        max_text_tokens: longest L.
        patch: side of a patch in latent cells.
        width, depth, heads: D, number of blocks, attention heads.
        feed_forward_ratio: hidden units per unit of width.
        mixer_depth: self-attention blocks over the condition tokens.
        num_registers: learned condition tokens that hold what belongs to no word; they keep attention non-empty.
        local: 3x3 depthwise convolution in the feed-forward.
    """

    kind: Literal["dit"] = "dit"
    latent_shape: tuple[int, int, int]
    num_rewards: int = 0
    text_dim: int | None = None
    vocabulary_size: int | None = None
    max_text_tokens: int = 32
    patch: int = 1
    width: int = 128
    depth: int = 4
    heads: int = 4
    feed_forward_ratio: float = 4.0
    mixer_depth: int = 1
    num_registers: int = 2
    local: bool = True

    def model_post_init(self, context: Any) -> None:
        if (self.text_dim is None) == (self.vocabulary_size is None):
            raise ConfigError("a DiT reads either features (text_dim) or word ids (vocabulary_size): set exactly one")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.latent_shape[1] % self.patch or self.latent_shape[2] % self.patch:
            raise ConfigError(f"the latent grid {self.latent_shape[1:]} must be a multiple of patch {self.patch}")
        if self.num_registers < 1:
            raise ConfigError("num_registers must be at least 1: a null text would leave nothing to attend to")

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches; their product is N."""
        return self.latent_shape[1] // self.patch, self.latent_shape[2] // self.patch


class Prepared(NamedTuple):
    """What the blocks need of a condition.

    Attributes:
        keys, values: one [B, H, M, d] per block.
        bias: [B, 1, 1, M], 0 where there is a token and -inf where not.
        pooled: [B, D], added to the time embedding.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    bias: Tensor
    pooled: Tensor


class DiT(nn.Module):
    """Implements `Denoiser`; stateless between steps (carry is None)."""

    config_class = DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_shape = config.latent_shape
        width, (rows, columns) = config.width, config.grid
        patch_width = config.latent_shape[0] * config.patch**2
        self.text = TextEmbedder(width, config.max_text_tokens, config.text_dim, config.vocabulary_size)
        self.rewards = RewardEmbedder(config.num_rewards, width) if config.num_rewards else None
        self.registers = nn.Parameter(torch.randn(config.num_registers, width) * 0.5)
        self.mixer = nn.ModuleList(MixerBlock(config) for _ in range(config.mixer_depth))
        self.key_value = Matrix(width, 2 * width * config.depth, num_parts=2 * config.depth)
        self.key_norm = HeadNorm(width // config.heads)
        self.pool = nn.Linear(width, width)
        self.time = TimeEmbedder(width)
        self.patch_in = nn.Linear(patch_width, width)
        self.position = nn.Parameter(torch.randn(rows * columns, width) * 0.5)
        self.modulation = nn.Linear(width, (6 * config.depth + 2) * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.patch_out = nn.Linear(width, patch_width)
        # Every block starts as the identity and the first prediction is zero (adaLN-zero, Peebles and Xie 2023).
        for zero in (self.modulation, self.patch_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def prepare(self, condition: Condition) -> Prepared:
        """Mixed condition tokens as keys and values of every block."""
        tokens, mask = self._tokens(condition)
        bias = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))[:, None, None, :]
        for block in self.mixer:
            tokens = block(tokens, bias)
        tokens = rms_norm(tokens)
        parts = self.key_value(tokens).chunk(2 * self.config.depth, dim=-1)
        keys = tuple(self.key_norm(split_heads(k, self.config.heads)) for k in parts[0::2])
        values = tuple(split_heads(v, self.config.heads) for v in parts[1::2])
        return Prepared(keys, values, bias, self.pool(tokens[:, 0]))

    def forward(self, x_t: Tensor, t: Tensor, prepared: Prepared, carry: None = None) -> DenoiserOutput:
        """Velocity float32 [B, C, H, W] at x_t and t [B]."""
        tokens = self.patch_in(self._patches(x_t)) + self.position
        parts = self.modulation(nn.functional.silu(self.time(t) + prepared.pooled)).chunk(6 * self.config.depth + 2, -1)
        for i, block in enumerate(self.blocks):
            context = (prepared.keys[i], prepared.values[i], prepared.bias)
            tokens = block(tokens, parts[6 * i : 6 * i + 6], *context)
        out = self.patch_out(modulate(rms_norm(tokens), *parts[-2:]))
        return DenoiserOutput(self._picture(out).float())

    def _tokens(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Registers, rewards and words as tokens [B, M, D] with their mask [B, M]."""
        batch = len(condition)
        registers = self.registers.expand(batch, -1, -1)
        parts = [registers, self.text(condition.text)]
        if self.rewards is not None:
            parts.insert(1, self.rewards(condition.level, condition.known))
        tokens = torch.cat(parts, dim=1)
        always = condition.text_mask.new_ones(batch, tokens.shape[1] - condition.text_mask.shape[1])
        return tokens, torch.cat([always, condition.text_mask], dim=1)

    def _patches(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, N, C p p]."""
        if self.config.patch == 1:
            return x.flatten(2).transpose(1, 2)
        (rows, columns), p = self.config.grid, self.config.patch
        return x.unflatten(3, (columns, p)).unflatten(2, (rows, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def _picture(self, tokens: Tensor) -> Tensor:
        """[B, N, C p p] -> [B, C, H, W]."""
        (rows, columns), p = self.config.grid, self.config.patch
        cells = tokens.unflatten(2, (-1, p, p)).unflatten(1, (rows, columns))
        return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class MixerBlock(nn.Module):
    """Self-attention and feed-forward over condition tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.width, config.heads)
        self.feed_forward = FeedForward(config.width, config.feed_forward_ratio)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.attention(rms_norm(x), bias)
        return x + self.feed_forward(rms_norm(x))


class Block(nn.Module):
    """Self-attention, attention to the condition, feed-forward; time modulates the first and the last."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention = SelfAttention(config.width, config.heads)
        self.query = Matrix(config.width, config.width)
        self.query_norm = HeadNorm(config.width // config.heads)
        self.out = Matrix(config.width, config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward_ratio, config.grid if config.local else None)

    def forward(self, x: Tensor, modulation: tuple[Tensor, ...], keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        x = x + gate_1.unsqueeze(1) * self.attention(modulate(rms_norm(x), shift_1, scale_1))
        q = self.query_norm(split_heads(self.query(rms_norm(x)), self.heads))
        x = x + self.out(merge_heads(attend(q, keys, values, bias)))
        return x + gate_2.unsqueeze(1) * self.feed_forward(modulate(rms_norm(x), shift_2, scale_2))
