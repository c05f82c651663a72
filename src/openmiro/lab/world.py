"""The lab's vocabulary: silhouettes, colors, grounds, settings, and what a scene consists of.

Lengths are fractions of the picture's width; x grows to the right and y downwards. Blur is in pixels of a 24 px wide
picture and scales with the resolution, so that one scene looks alike at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from openmiro.core.config import Config

SHAPES = ("square", "ring", "triangle", "cross")
"""Silhouettes that already differ at a glance: full, hollow, pointed, notched."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (226, 38, 44),
    "green": (36, 168, 62),
    "blue": (36, 70, 226),
    "yellow": (246, 208, 36),
    "purple": (172, 44, 206),
    "cyan": (36, 200, 222),
}
"""sRGB values; the hues are spread over the circle."""

GROUNDS: dict[str, tuple[int, int, int]] = {
    "gray": (152, 152, 154),
    "white": (236, 236, 236),
    "beige": (218, 210, 194),
    "dark": (62, 62, 66),
}
"""sRGB values of the neutral grounds."""

REFERENCE_WIDTH = 24
"""Resolution to which blur and clutter sizes refer."""

Floats = NDArray[np.floating[Any]]
Arrangement = Literal["single", "row", "column", "corners"]


class Tag(StrEnum):
    """The six kinds of GenEval."""

    SINGLE_OBJECT = "single_object"
    TWO_OBJECT = "two_object"
    COUNTING = "counting"
    COLORS = "colors"
    POSITION = "position"
    COLOR_ATTRIBUTION = "color_attribution"


class LabSettings(Config):
    """The size and the character of the world.

    Attributes:
        resolution: width and height of the pictures in pixels.
        num_shapes: how many of `SHAPES` occur.
        num_colors: how many of `COLORS` occur.
        max_objects: objects in a picture; 3 occurs only for counting.
        wrong_captions: share of original captions that say something untrue.
        partial_captions: share of original captions that leave more out than their kind does.
        degraded: share of pictures with one or more defects (blur, noise, washed-out color, low contrast, clutter,
            off-center crop) of graded strength.
        proper_shadows: share of pictures whose shadows obey the world's rule: they fall to the lower right.
        image_format: of the shard members.
    """

    resolution: int = Field(default=24, ge=16, le=256)
    num_shapes: int = Field(default=4, ge=2, le=len(SHAPES))
    num_colors: int = Field(default=6, ge=2, le=len(COLORS))
    max_objects: int = Field(default=2, ge=1, le=3)
    wrong_captions: float = Field(default=0.3, ge=0, le=1)
    partial_captions: float = Field(default=0.2, ge=0, le=1)
    degraded: float = Field(default=0.4, ge=0, le=1)
    proper_shadows: float = Field(default=0.3, ge=0, le=1)
    image_format: Literal["png", "jpg"] = "png"

    @property
    def shapes(self) -> tuple[str, ...]:
        return SHAPES[: self.num_shapes]

    @property
    def colors(self) -> tuple[str, ...]:
        return tuple(COLORS)[: self.num_colors]

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The kinds that this world can show."""
        pairs = (Tag.TWO_OBJECT, Tag.POSITION, Tag.COLOR_ATTRIBUTION)
        return tuple(tag for tag in Tag if self.max_objects > 1 or tag not in pairs)


@dataclass(frozen=True)
class Shape:
    """One object: its center (x, y) and its width, all as fractions of the picture's width."""

    kind: str
    color: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Shadow:
    """A soft drop shadow of every object: offset (dx, dy) and darkness in [0, 1]."""

    dx: float
    dy: float
    strength: float

    @property
    def proper(self) -> bool:
        """Whether it falls to the lower right, as the world's rule asks."""
        return self.dx > 0 and self.dy > 0


@dataclass(frozen=True)
class Speck:
    """A small neutral disc on the ground: clutter. `tone` is added to the ground's sRGB values."""

    x: float
    y: float
    size: float
    tone: float


@dataclass(frozen=True)
class Quality:
    """How well the picture was taken.

    Attributes:
        blur: standard deviation in pixels of a 24 px picture.
        noise: standard deviation in 8-bit steps, independent per pixel and channel.
        saturation: 1 keeps the colors, 0 is gray.
        contrast: 1 keeps the contrast, 0 is one flat gray.
        specks: clutter.
    """

    blur: float = 0.0
    noise: float = 0.0
    saturation: float = 1.0
    contrast: float = 1.0
    specks: tuple[Speck, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows.

    Attributes:
        tag: the kind of scene; decides what its original caption talks about.
        objects: from left to right in a row, from top to bottom in a column.
        ground: a name of `GROUNDS`.
        ground_shift: added to the ground's sRGB values.
        gradient: (gx, gy), change of the ground's sRGB values across the picture.
        noise_seed: of the pixel noise.
    """

    tag: Tag
    objects: tuple[Shape, ...]
    arrangement: Arrangement
    ground: str
    ground_shift: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    shadow: Shadow | None = None
    quality: Quality = Quality()
    noise_seed: int = 0
