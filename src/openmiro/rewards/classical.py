"""Image-only rewards from closed formulas: no weights, any photo, any machine.

Each is measured on the sRGB picture with its longest side limited to `WORKING_SIDE` pixels (antialiased; a smaller
picture stays as it is), so that a photo's resolution does not decide its score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from openmiro.core.types import RewardSpec

WORKING_SIDE = 512
_CLIP_MARGIN = 2.5 / 255
"""Pixels this near to black or white count as clipped."""

Pixels = NDArray[np.float64]
"""sRGB values [H, W, 3] in 0 ... 255."""


class ImageStatistic(ABC):
    """A number computed from pixels. The whole measurement happens in `preprocess`, so it runs in the workers."""

    spec: RewardSpec

    @abstractmethod
    def measure(self, pixels: Pixels) -> float:
        """The raw score of one picture, float64 [H, W, 3] in 0 ... 255."""

    def preprocess(self, image: Image.Image) -> Tensor:
        """The score of an RGB picture of any size, float32 [1]."""
        small = limit_side(image, WORKING_SIDE)
        return torch.tensor([self.measure(np.asarray(small, np.float64))], dtype=torch.float32)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """The scores [B, 1] themselves."""
        return pixels

    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Raw scores float32 [B]; texts are ignored."""
        return features[:, 0].to("cpu", torch.float32)


class Colorfulness(ImageStatistic):
    """M3 of Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003), equation 4.

    With rg = R - G and yb = (R + G) / 2 - B on 0 ... 255: sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2).
    0 is gray; the authors call 15 slightly, 45 averagely and 109 extremely colorful.
    """

    spec = RewardSpec(
        name="colorfulness",
        unit="M3",
        low=0,
        needs_text=False,
        version="1",
        description="Colorfulness M3 of Hasler and Suesstrunk (2003); 0 gray, 109 extremely colorful",
    )

    def measure(self, pixels: Pixels) -> float:
        red, green, blue = np.moveaxis(pixels, -1, 0)
        rg, yb = red - green, 0.5 * (red + green) - blue
        return float(np.sqrt(rg.var() + yb.var()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


class Sharpness(ImageStatistic):
    """log10(1 + variance of the 4-neighbor Laplacian of luma), luma on 0 ... 255, edges repeated at the border.

    The variance of the Laplacian is a focus measure of Pech-Pacheco et al. (2000); the logarithm is for reading.
    """

    spec = RewardSpec(
        name="laplacian_sharpness",
        unit="log10(1 + variance)",
        low=0,
        needs_text=False,
        version="1",
        description="Fine detail: variance of the Laplacian of luma, on a log scale",
    )

    def measure(self, pixels: Pixels) -> float:
        padded = np.pad(luma(pixels), 1, mode="edge")
        neighbors = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        return float(np.log10(1 + (neighbors - 4 * padded[1:-1, 1:-1]).var()))


class Contrast(ImageStatistic):
    """RMS contrast: standard deviation of linear luminance (Peli 1990), 0 for a flat picture, 0.5 for half black."""

    spec = RewardSpec(
        name="contrast",
        unit="RMS luminance",
        low=0,
        high=0.5,
        needs_text=False,
        version="1",
        description="RMS contrast of linear luminance",
    )

    def measure(self, pixels: Pixels) -> float:
        return float(linear_luminance(pixels).std())


class Exposure(ImageStatistic):
    """Well-exposedness: mean of exp(-(l - 0.5)^2 / (2 0.2^2)) over luma l in 0 ... 1, times the share not clipped.

    The Gaussian is that of Mertens et al., "Exposure Fusion" (2007), section 3.1. Clipped is within 2 of 0 or 255.
    """

    spec = RewardSpec(
        name="exposure",
        unit="share",
        low=0,
        high=1,
        needs_text=False,
        version="1",
        description="How near pixels are to mid-gray, less the share that is clipped to black or white",
    )

    def measure(self, pixels: Pixels) -> float:
        light = luma(pixels) / 255
        clipped = ((light < _CLIP_MARGIN) | (light > 1 - _CLIP_MARGIN)).mean()
        return float(np.exp(-((light - 0.5) ** 2) / (2 * 0.2**2)).mean() * (1 - clipped))


def limit_side(image: Image.Image, side: int) -> Image.Image:
    """The picture shrunk so that its longest side is at most `side` pixels; never enlarged."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(1, round(s * side / longest)) for s in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def luma(pixels: Pixels) -> Pixels:
    """Rec. 601 luma [H, W] of gamma-encoded values, in their unit."""
    return pixels @ np.array([0.299, 0.587, 0.114])


def linear_luminance(pixels: Pixels) -> Pixels:
    """Rec. 709 luminance [H, W] in 0 ... 1 of sRGB values 0 ... 255 (IEC 61966-2-1)."""
    encoded = pixels / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])
