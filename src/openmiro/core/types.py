"""The vocabulary that stages hand to each other, and the four protocols that carry the design.

Shape legend, used in every docstring: B batch, R rewards, K bins, L text tokens, C H W latent, N patches,
Z latent tokens, D width.

Conventions: time t = 0 is data and t = 1 is noise, x_t = (1 - t) x_0 + t eps, and the velocity is v = eps - x_0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from PIL.Image import Image


class CaptionKind(StrEnum):
    """Which caption of a row is meant. Choosing one chooses its text and all its text-dependent scores together."""

    ORIGINAL = "original"
    SYNTHETIC = "synthetic"


class RewardSpec(Config):
    """What a reward model measures.

    Attributes:
        name: identifier, also the name of its folder of scores.
        unit: of the raw score ("probability", "logit", "points 1-10").
        low, high: bounds of the raw score where it has any, for plots and for checks; None where unbounded.
        needs_text: False for image-only rewards, which are computed once per image whatever its captions.
        caption: which length of synthetic caption the reward reads.
        version: changes whenever the same pair would get another score.
        license: of the weights, as an SPDX identifier where there is one.
        description: one line for people.
    """

    name: str
    unit: str
    low: float | None = None
    high: float | None = None
    needs_text: bool
    caption: Literal["long", "short"] = "long"
    version: str
    license: str = "MIT"
    description: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its score columns: one per caption, or the single column "image"."""
        return tuple(CaptionKind) if self.needs_text else ("image",)

    def column(self, caption: CaptionKind) -> str:
        """The column that goes with a caption."""
        return caption.value if self.needs_text else "image"


class RewardSet(Config):
    """Rewards in a declared order, which is the order of every tensor's R axis."""

    specs: tuple[RewardSpec, ...] = ()

    def model_post_init(self, context: Any) -> None:
        if len(set(self.names)) != len(self.names):
            raise ConfigError(f"a reward is named twice: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)

    def index(self, name: str) -> int:
        """Position of a reward on the R axis.

        Raises:
            UnknownNameError: no such reward in this set; the message lists the set.
        """
        if name not in self.names:
            raise UnknownNameError("reward", name, self.names)
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.specs)


class TextBatch(NamedTuple):
    """Encoded captions.

    Attributes:
        text: features float [B, L, D] of a frozen encoder, or token ids int64 [B, L] where the denoiser embeds them.
        mask: bool [B, L], True where there is a token.
    """

    text: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Condition:
    """All that a denoiser is told besides the noisy latent and the time.

    Attributes:
        text: float [B, L, D] features, or int64 [B, L] token ids for a text embedding trained with the denoiser.
        text_mask: bool [B, L]; all False is the null text.
        level: float32 [B, R] in [0, 1].
        known: bool [B, R]; where False the level has no effect and the denoiser uses its *unknown* token.
    """

    text: Tensor
    text_mask: Tensor
    level: Tensor
    known: Tensor

    def __len__(self) -> int:
        return self.text.shape[0]

    def to(self, device: torch.device | str) -> Condition:
        """The same condition on another device."""
        return Condition(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Some rows of the batch."""
        return Condition(*(t[rows] for t in self._tensors()))

    def pin_memory(self) -> Condition:
        """The same condition in page-locked memory, from which an accelerator copies without waiting."""
        return Condition(*(t.pin_memory() for t in self._tensors()))

    def with_levels(self, level: Tensor, known: Tensor) -> Condition:
        """The same text with other levels [B, R]."""
        return replace(self, level=level, known=known)

    def null_text(self) -> Condition:
        """The same levels with every text token masked out."""
        return replace(self, text_mask=torch.zeros_like(self.text_mask))

    def unknown(self) -> Condition:
        """The same text with every level unknown."""
        return replace(self, known=torch.zeros_like(self.known))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.text, self.text_mask, self.level, self.known

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """Stacks conditions along the batch axis; their L must agree."""
        return Condition(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Condition)))


@dataclass(frozen=True)
class LatentBatch:
    """What one training step sees.

    Attributes:
        latent: float32 [B, C, H, W], a sample of the codec's distribution.
        condition: after caption choice and dropout.
        noise: float32 [B, C, H, W], eps of the path.
        time: float32 [B] in (0, 1).
        keys: one sample key per row, for messages.
    """

    latent: Tensor
    condition: Condition
    noise: Tensor
    time: Tensor
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return self.latent.shape[0]

    def to(self, device: torch.device | str) -> LatentBatch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        return replace(
            self,
            latent=self.latent.to(**move),
            condition=self.condition.to(device),
            noise=self.noise.to(**move),
            time=self.time.to(**move),
        )

    def pin_memory(self) -> LatentBatch:
        """The same batch in page-locked memory; a data loader calls this by its name."""
        return replace(
            self,
            latent=self.latent.pin_memory(),
            condition=self.condition.pin_memory(),
            noise=self.noise.pin_memory(),
            time=self.time.pin_memory(),
        )

    def __getitem__(self, rows: slice) -> LatentBatch:
        """A contiguous part of the batch, as gradient accumulation needs."""
        return LatentBatch(self.latent[rows], self.condition[rows], self.noise[rows], self.time[rows], self.keys[rows])


class DenoiserOutput(NamedTuple):
    """Velocity [B, C, H, W] and the denoiser's private state between steps (None for a stateless one)."""

    velocity: Tensor
    carry: Any = None


@runtime_checkable
class Denoiser(Protocol):
    """A network that predicts velocity. Implementations are `torch.nn.Module`s."""

    latent_shape: tuple[int, int, int]

    def prepare(self, condition: Condition) -> Any:
        """Everything that does not depend on x_t or t: mixed tokens, keys and values. Once per picture."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor, prepared: Any, carry: Any = None) -> DenoiserOutput:
        """Velocity at x_t [B, C, H, W] and t [B]."""
        ...


@runtime_checkable
class RewardModel(Protocol):
    """A scorer. Training data and evaluation use the same object."""

    spec: RewardSpec

    def preprocess(self, image: Image) -> Tensor:
        """An RGB picture as a tensor of one fixed shape, so that a batch stacks. Runs in a worker."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Features [B, ...] of stacked preprocessed pictures; once per image whatever its captions."""
        ...

    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Raw scores, float32 [B] on the CPU. Image-only rewards ignore the texts."""
        ...


@runtime_checkable
class ImageCodec(Protocol):
    """Pictures to latents and back. `name` identifies the codec *and* its weights' meaning in folder names."""

    name: str

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, H, W) for square pictures of `resolution` pixels."""
        ...

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalized mean [B, C, H, W] and standard deviation (or None) of pixels [B, 3, h, w] in [-1, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, h, w] in [-1, 1] of normalized latents [B, C, H, W]."""
        ...

    def save(self, folder: Path) -> None:
        """Writes settings and weights (or the name of the public repository they come from)."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the same pixels would get other latents."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Captions to token features or token ids."""

    name: str
    max_tokens: int

    def encode(self, texts: Sequence[str]) -> TextBatch:
        """Text padded to `max_tokens`; a longer caption is cut there."""
        ...

    def save(self, folder: Path) -> None:
        """Writes settings and vocabulary (or the name of the public repository they come from)."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the same caption would get another encoding."""
        ...


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive lists of at most `size` items."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


__all__ = [
    "CaptionKind",
    "Condition",
    "Denoiser",
    "DenoiserOutput",
    "ImageCodec",
    "LatentBatch",
    "RewardModel",
    "RewardSet",
    "RewardSpec",
    "TextBatch",
    "TextEncoder",
    "batched",
]
