"""The pixel codec: latents are the pixels themselves. Also the way to every other codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from openmiro.codecs.catalog import CODECS, build_codec, load_codec
from openmiro.codecs.files import CODEC_FILE, read_header, write_header
from openmiro.core.config import Config, fingerprint


class PixelSettings(Config):
    """Settings of `PixelCodec`.

    Attributes:
        scale: latent = scale * pixel; 2 brings natural pictures, whose pixels spread about 0.5, near unit variance.
    """

    scale: float = Field(default=2.0, gt=0)


class PixelCodec:
    """Latents [B, 3, h, w] that are scaled pixels. Exact, and slow to learn from: use it as a control."""

    kind: ClassVar[str] = "pixel"
    needs_fit: ClassVar[bool] = False
    name: str = "pixel"

    def __init__(self, settings: PixelSettings | None = None) -> None:
        self.settings = settings or PixelSettings()

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """The codec with the given settings."""
        return cls(PixelSettings.parse(settings, "the settings of the pixel codec"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The codec that `save` wrote."""
        return cls.build(read_header(folder / CODEC_FILE)[1])

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(3, resolution, resolution)."""
        return (3, resolution, resolution)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scaled pixels, and no standard deviation: the codec is exact."""
        return pixels.float() * self.settings.scale, None

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, h, w], clamped to [-1, 1]."""
        return (latents.float() / self.settings.scale).clamp(-1, 1)

    def to(self, device: torch.device | str) -> Self:
        """Itself: it has no weights."""
        return self

    def save(self, folder: Path) -> None:
        """Writes codec.json."""
        write_header(folder / CODEC_FILE, self.kind, self.settings.dump())

    def fingerprint(self) -> str:
        """Of the settings."""
        return fingerprint({"kind": self.kind, **self.settings.dump()})


def __getattr__(name: str) -> Any:
    # diffusers' codec lives in its own file; this keeps the documented address without importing it.
    if name == "AutoencoderKLCodec":
        from openmiro.codecs.kl import AutoencoderKLCodec

        return AutoencoderKLCodec
    raise AttributeError(name)


__all__ = ["CODECS", "PixelCodec", "PixelSettings", "build_codec", "load_codec"]
