"""A diffusion transformer that is told its text and its reward levels as tokens.

Condition tokens (words, one token per reward, registers) are mixed among themselves and turned into every block's keys
and values once, in `prepare`. In each block the image tokens attend to themselves and to the condition under one
softmax: cross-attention without its own query and output maps.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError
from openmiro.core.types import Condition, DenoiserOutput
from openmiro.models.embedders import RewardEmbedder, TextEmbedder, TimeEmbedder, trim_padding
from openmiro.models.layers import Attention, FeedForward, Matrix, compute_dtype, normalize, split_heads


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
        context: keys and values [B, H, M, d] of each block; values are 0 where there is no token.
        present: [B, 1, N + M, 1], 1 for every image token and for the condition tokens that exist, 0 elsewhere.
        pooled: [B, D], added to the time embedding.
    """

    context: tuple[tuple[Tensor, Tensor], ...]
    present: Tensor
    pooled: Tensor


class DiT(nn.Module):
    """Implements `Denoiser`; stateless between steps (carry is None)."""

    config_class = DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_shape = config.latent_shape
        width, num_patches = config.width, config.grid[0] * config.grid[1]
        patch_width = config.latent_shape[0] * config.patch**2
        self.text = TextEmbedder(width, config.max_text_tokens, config.text_dim, config.vocabulary_size)
        self.rewards = RewardEmbedder(config.num_rewards, width) if config.num_rewards else None
        self.registers = nn.Parameter(torch.randn(config.num_registers, width) * 0.5)
        self.mixer = nn.ModuleList(MixerBlock(config) for _ in range(config.mixer_depth))
        self.key_value = Matrix(width, 2 * config.depth * width, num_parts=2 * config.depth)
        self.pool = nn.Linear(width, width)
        self.time = TimeEmbedder(width)
        self.patch_in = nn.Linear(patch_width, width)
        self.position = nn.Parameter(torch.randn(num_patches, width) * 0.5)
        self.modulation = nn.Linear(width, (6 * config.depth + 2) * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.patch_out = nn.Linear(width, patch_width)
        self._start_at_zero()

    def prepare(self, condition: Condition) -> Prepared:
        """Mixed condition tokens as keys and values of every block."""
        tokens, present = self._tokens(condition)
        for block in self.mixer:
            tokens = block(tokens, present)
        tokens = normalize(tokens)
        # [B, 2 depth H, M, d]: all blocks' keys, then all blocks' values.
        heads = split_heads(self.key_value(tokens), 2 * self.config.depth * self.config.heads)
        keys, values = heads.chunk(2, dim=1)
        pairs = zip(normalize(keys).chunk(self.config.depth, 1), (values * present).chunk(self.config.depth, 1))
        everywhere = present.new_ones(present.shape[0], 1, len(self.position), 1)
        return Prepared(tuple(pairs), torch.cat([everywhere, present], dim=2), self.pool(tokens[:, 0]))

    def forward(self, x_t: Tensor, t: Tensor, prepared: Prepared, carry: None = None) -> DenoiserOutput:
        """Velocity float32 [B, C, H, W] at x_t and t [B]."""
        tokens = self.patch_in(patches(x_t, self.config.patch))
        tokens = tokens + self.position.to(tokens.dtype)
        modulation = self.modulation(nn.functional.silu(self.time(t) + prepared.pooled)).unsqueeze(1)
        parts = modulation.chunk(6 * self.config.depth + 2, dim=-1)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, parts[6 * i : 6 * i + 6], prepared.context[i], prepared.present)
        shift, scale = parts[-2:]
        out = self.patch_out(torch.addcmul(shift, normalize(tokens), scale))
        return DenoiserOutput(picture(out.float(), self.config.grid, self.config.patch))

    def _tokens(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Registers, rewards and words as tokens [B, M, D], and which of them exist, [B, 1, M, 1]."""
        batch = len(condition)
        text, mask = trim_padding(condition.text, condition.text_mask)
        dtype = compute_dtype(mask.device, self.registers.dtype)
        parts = [self.registers.expand(batch, -1, -1)]
        if self.rewards is not None:
            parts.append(self.rewards(condition.level, condition.known))
        parts.append(self.text(text))
        tokens = torch.cat([part.to(dtype) for part in parts], dim=1)
        always = mask.new_ones(batch, tokens.shape[1] - mask.shape[1])
        return tokens, torch.cat([always, mask], dim=1).to(dtype)[:, None, :, None]

    @torch.no_grad()
    def _start_at_zero(self) -> None:
        """Every block starts as the identity and the first prediction is zero (adaLN-zero, Peebles and Xie 2023)."""
        width = self.config.width
        for layer in (self.modulation, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Rows are (shift, scale, gate) twice a block, then (shift, scale): scales start at 1.
        rows = self.modulation.bias.view(-1, width)
        for i in range(self.config.depth):
            rows[6 * i + 1] = rows[6 * i + 4] = 1.0
        rows[-1] = 1.0


class MixerBlock(nn.Module):
    """Self-attention and feed-forward over condition tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = FeedForward(config.width, config.feed_forward_ratio)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        x = x + self.attention(normalize(x), present=present)
        return x + self.feed_forward(normalize(x))


class Block(nn.Module):
    """Attention to image and condition tokens, then feed-forward; both under time modulation."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = FeedForward(config.width, config.feed_forward_ratio, config.grid if config.local else None)

    def forward(
        self, x: Tensor, modulation: tuple[Tensor, ...], context: tuple[Tensor, Tensor], present: Tensor
    ) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        attended = self.attention(torch.addcmul(shift_1, normalize(x), scale_1), context, present)
        x = torch.addcmul(x, attended, gate_1)
        return torch.addcmul(x, self.feed_forward(torch.addcmul(shift_2, normalize(x), scale_2)), gate_2)


def patches(x: Tensor, size: int) -> Tensor:
    """Latents [B, C, H, W] as tokens [B, N, C size size], row by row."""
    if size == 1:
        return x.flatten(2).transpose(1, 2)
    cells = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def picture(tokens: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """The inverse of `patches`: [B, N, C size size] -> [B, C, H, W]."""
    cells = tokens.unflatten(2, (-1, size, size)).unflatten(1, grid)
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
