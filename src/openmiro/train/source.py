"""Where training samples come from: latents and conditions by position, before dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmiro.core.config import fingerprint
from openmiro.core.seeds import normal, uniform
from openmiro.core.types import Condition, ImageCodec, RewardSet, RewardSpec, TextEncoder
from openmiro.rewards.levels import LevelTables


class Samples(NamedTuple):
    """What is known about some positions.

    Attributes:
        latent: float32 [B, C, H, W], a sample of the codec's distribution.
        condition: text and levels of the chosen caption.
        keys: one per row, for messages.
    """

    latent: Tensor
    condition: Condition
    keys: tuple[str, ...]


class Origin(NamedTuple):
    """What a checkpoint tells about its data, so that sampling needs nothing else.

    Attributes:
        rewards: conditioned on, in order.
        levels: their tables; None where raw scores have no meaning (random data).
        resolution: side of the pictures in pixels.
        codec, text_encoder: that made latents and text; None for random data.
    """

    rewards: RewardSet
    levels: LevelTables | None
    resolution: int
    codec: ImageCodec | None
    text_encoder: TextEncoder | None


class SampleSource(Protocol):
    """Samples as a pure function of positions. Goes to worker processes by pickling, so it holds paths, not files."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever a position would yield something else."""
        ...

    @property
    def model_inputs(self) -> dict[str, Any]:
        """What the denoiser must know about its inputs: latent_shape, num_rewards, max_text_tokens and either
        text_dim or vocabulary_size."""
        ...

    def samples(self, positions: NDArray[np.integer]) -> Samples:
        """The samples at some positions 0, 1, ...; row i depends on positions[i] only."""
        ...

    def origin(self) -> Origin:
        """Loads what goes into checkpoints."""
        ...


@dataclass(frozen=True)
class RandomSource:
    """Endless random latents, captions and levels of given shapes: tries a machine or a recipe without any data.

    The latent of a position is its first level times a fixed pattern plus noise, so that there is something to learn.
    """

    latent_shape: tuple[int, int, int]
    rewards: tuple[str, ...] = ()
    vocabulary_size: int | None = 32
    text_dim: int | None = None
    max_text_tokens: int = 8
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        return fingerprint(["random", self.model_inputs, self.seed])

    @property
    def model_inputs(self) -> dict[str, Any]:
        return {
            "latent_shape": list(self.latent_shape),
            "num_rewards": len(self.rewards),
            "vocabulary_size": self.vocabulary_size,
            "text_dim": self.text_dim,
            "max_text_tokens": self.max_text_tokens,
        }

    def samples(self, positions: NDArray[np.integer]) -> Samples:
        """The samples at some positions."""
        num_rewards, num_tokens = len(self.rewards), self.max_text_tokens
        draws = uniform(self.seed, "random source", positions, num=2 + num_rewards + num_tokens)
        level = torch.from_numpy(draws[:, 2 : 2 + num_rewards]).float()
        length = torch.from_numpy(1 + draws[:, :1] * num_tokens)
        mask = torch.arange(num_tokens) < length
        pattern = normal(self.seed, "pattern", [0], self.latent_shape)
        strength = torch.from_numpy(draws[:, 1:2] if num_rewards == 0 else draws[:, 2:3]).float()
        latent = strength[:, :, None, None] * pattern + 0.5 * normal(
            self.seed, "latents", list(positions), self.latent_shape
        )
        text = self._text(positions, draws[:, 2 + num_rewards :])
        keys = tuple(f"random-{position}" for position in positions)
        return Samples(latent, Condition(text, mask, level, torch.ones_like(level, dtype=torch.bool)), keys)

    def origin(self) -> Origin:
        """No codec, no levels."""
        specs = [RewardSpec(name=name, unit="level", needs_text=False, version="0") for name in self.rewards]
        return Origin(RewardSet(specs=tuple(specs)), None, self.latent_shape[1], None, None)

    def _text(self, positions: NDArray[np.integer], draws: NDArray[np.float64]) -> Tensor:
        if self.text_dim is not None:
            return normal(self.seed, "text", list(positions), (self.max_text_tokens, self.text_dim))
        return torch.from_numpy(draws * (self.vocabulary_size or 1)).long()
