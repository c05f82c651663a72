"""What a sampling call returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from openmiro.core.errors import ConfigError
from openmiro.pipeline.metadata import PictureMetadata, write_png
from openmiro.pipeline.targets import Targets

OutputType = Literal["pil", "np", "pt", "latent"]
OUTPUT_TYPES: tuple[str, ...] = ("pil", "np", "pt", "latent")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class MiroPipelineOutput:
    """Pictures and what they were drawn with; indexing and iterating go over the pictures.

    Attributes:
        images: a list of PIL pictures ("pil"), float32 [B, h, w, 3] in [0, 1] ("np"), float32 [B, 3, h, w] in [0, 1]
            ("pt"), or latents float32 [B, C, H, W] ("latent"). The pictures of one prompt lie together.
        seeds: one per picture; empty where latents were given.
        reward_targets, negative_reward_targets: levels [B, R] and known [B, R].
        metadata: one per picture.
    """

    images: Any
    seeds: tuple[int, ...]
    reward_targets: Targets
    negative_reward_targets: Targets
    metadata: tuple[PictureMetadata, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> Any:
        return self.images[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.images)

    def save(self, folder: Path, upscale: int = 1) -> list[Path]:
        """Writes one PNG per picture with its metadata inside, named by number, prompt and seed.

        Args:
            folder: made where it does not exist; files of the same name are replaced.
            upscale: enlarges by this factor, pixels kept square.

        Raises:
            ConfigError: the images are latents.
            DiskFullError: no space is left.
        """
        paths = []
        for index, (image, metadata) in enumerate(zip(self.to_pil(), self.metadata, strict=True)):
            seed = "" if metadata.seed is None else f"-{metadata.seed}"
            path = Path(folder) / f"{index:03d}-{_file_name(metadata.prompt)}{seed}.png"
            size = (image.width * upscale, image.height * upscale)
            write_png(image.resize(size, Image.Resampling.NEAREST) if upscale > 1 else image, path, metadata)
            paths.append(path)
        return paths

    def to_pil(self) -> list[Image.Image]:
        """The pictures as PIL images, whatever their present type.

        Raises:
            ConfigError: they are latents.
        """
        if isinstance(self.images, list):
            return self.images
        if isinstance(self.images, Tensor):
            if self.images.shape[1] != 3 or self.images.ndim != 4:
                raise ConfigError("latents are no pictures: decode them first, or ask for another output_type")
            return to_pil(self.images.permute(0, 2, 3, 1).cpu().numpy())
        return to_pil(self.images)


def convert(pixels: Tensor, output_type: OutputType) -> Any:
    """Pixels [B, 3, h, w] in [-1, 1] as the type asked for."""
    unit = (pixels.float().cpu() * 0.5 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return unit
    array = unit.permute(0, 2, 3, 1).contiguous().numpy()
    return array if output_type == "np" else to_pil(array)


def to_pil(pictures: Sequence[Any] | np.ndarray) -> list[Image.Image]:
    """Pictures [B, h, w, 3] in [0, 1] as PIL images."""
    return [Image.fromarray((np.asarray(p) * 255).round().astype(np.uint8)) for p in pictures]


def _file_name(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:_LONGEST_NAME].strip("-") or "picture"
