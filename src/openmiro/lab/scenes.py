"""Scenes of one to three colored shapes, and their rendering.

Lengths are fractions of the picture's width; x grows to the right and y downwards. Blur is in pixels of a 24 px wide
picture and scales with the resolution, so that one scene looks alike at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
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


_TAG_SHARES = {
    Tag.SINGLE_OBJECT: 0.12,
    Tag.COLORS: 0.33,
    Tag.COUNTING: 0.15,
    Tag.TWO_OBJECT: 0.1,
    Tag.POSITION: 0.15,
    Tag.COLOR_ATTRIBUTION: 0.15,
}


def sample_scene(rng: np.random.Generator, settings: LabSettings, tag: Tag | None = None, clean: bool = False) -> Scene:
    """A random scene.

    Args:
        tag: its kind; drawn where None.
        clean: no defects at all, and the shadow at will.
    """
    if tag is None:
        tags = settings.tags
        shares = np.array([_TAG_SHARES[t] for t in tags])
        tag = tags[rng.choice(len(tags), p=shares / shares.sum())]
    degraded = not clean and rng.random() < settings.degraded
    defects = _sample_defects(rng) if degraded else frozenset()
    objects, arrangement = _sample_objects(rng, settings, tag, off_center="crop" in defects)
    return Scene(
        tag=tag,
        objects=objects,
        arrangement=arrangement,
        ground=tuple(GROUNDS)[rng.integers(len(GROUNDS))],
        ground_shift=float(rng.uniform(-8, 8)),
        gradient=(float(rng.uniform(-14, 14)), float(rng.uniform(-14, 14))) if rng.random() < 0.5 else (0.0, 0.0),
        shadow=_sample_shadow(rng, settings),
        quality=_sample_quality(rng, defects, clean),
        noise_seed=int(rng.integers(2**63)),
    )


def _sample_objects(
    rng: np.random.Generator, settings: LabSettings, tag: Tag, off_center: bool
) -> tuple[tuple[Shape, ...], Arrangement]:
    if tag in (Tag.SINGLE_OBJECT, Tag.COLORS):
        num = 1
    elif tag is Tag.COUNTING:
        weights = np.array([1.0, 2.0, 2.0][: settings.max_objects])
        num = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
    else:
        num = 2
    if tag is Tag.COUNTING:
        kinds = [settings.shapes[rng.integers(settings.num_shapes)]] * num
        colors = [settings.colors[rng.integers(settings.num_colors)]] * num
    else:
        kinds = [settings.shapes[i] for i in rng.permutation(settings.num_shapes)[:num]]
        colors = [settings.colors[i] for i in rng.permutation(settings.num_colors)[:num]]
    places, arrangement = _sample_places(rng, num, off_center)
    return tuple(Shape(k, c, *p) for k, c, p in zip(kinds, colors, places, strict=True)), arrangement


def _sample_places(
    rng: np.random.Generator, num: int, off_center: bool
) -> tuple[list[tuple[float, float, float]], Arrangement]:
    """(x, y, size) of each object, without overlap."""
    if num == 1:
        size = float(rng.uniform(0.46, 0.64))
        reach = 0.34 if off_center else 0.44 - size / 2
        angle, radius = rng.uniform(0, 2 * np.pi), reach * (rng.uniform(0.75, 1.0) if off_center else rng.random())
        return [(0.5 + float(radius * np.cos(angle)), 0.5 + float(radius * np.sin(angle)), size)], "single"
    sizes = rng.uniform(0.36, 0.42, num)
    if num == 2:
        # Along the axis each object stays in its half; across it may drift.
        along = [0.5 + side * 0.25 + rng.uniform(-0.012, 0.012) for side in (-1, 1)]
        across = [0.5 + rng.uniform(-1, 1) * (0.16 if off_center else 0.07) for _ in range(2)]
        row = rng.random() < 0.5
        pairs = zip(along, across, sizes, strict=True)
        places = [(float(a), float(b), float(s)) if row else (float(b), float(a), float(s)) for a, b, s in pairs]
        return places, "row" if row else "column"
    corners = rng.permutation(4)[:num]
    jitter = rng.uniform(-0.012, 0.012, (num, 2))
    return [
        (0.5 + (c % 2 * 2 - 1) * 0.25 + float(j[0]), 0.5 + (c // 2 * 2 - 1) * 0.25 + float(j[1]), float(s))
        for c, j, s in zip(corners.tolist(), jitter, sizes, strict=True)
    ], "corners"


def _sample_shadow(rng: np.random.Generator, settings: LabSettings) -> Shadow | None:
    strength, offset = float(rng.uniform(0.35, 0.55)), float(rng.uniform(0.075, 0.11))
    u = rng.random()
    if u < settings.proper_shadows:
        return Shadow(offset, offset, strength)
    if u < settings.proper_shadows + (1 - settings.proper_shadows) * 0.5:
        return None
    dx, dy = ((-1, 1), (-1, -1), (1, -1))[rng.integers(3)]
    return Shadow(dx * offset, dy * offset, strength)


_DEFECTS = ("blur", "noise", "washed", "contrast", "clutter", "crop")
_DEFECT_SHARES = (0.25, 0.25, 0.15, 0.15, 0.12, 0.08)


def _sample_defects(rng: np.random.Generator) -> frozenset[str]:
    num = 1 + int(rng.random() < 0.35)
    return frozenset(_DEFECTS[i] for i in rng.choice(len(_DEFECTS), size=num, replace=False, p=_DEFECT_SHARES))


def _sample_quality(rng: np.random.Generator, defects: frozenset[str], clean: bool) -> Quality:
    # Every picture differs a little, so that scores are continuous; defects differ a lot.
    base, strength = rng.random(4), rng.random(4)
    num_specks, specks = 3 + int(rng.integers(5)), rng.random((8, 4))
    if clean:
        return Quality()
    return Quality(
        blur=float(0.35 * base[0] + ("blur" in defects) * (0.4 + 1.1 * strength[0])),
        noise=float(2.5 * base[1] + ("noise" in defects) * (4 + 18 * strength[1])),
        saturation=float(1 - 0.12 * base[2] - ("washed" in defects) * (0.2 + 0.4 * strength[2])),
        contrast=float(1 - 0.08 * base[3] - ("contrast" in defects) * (0.2 + 0.35 * strength[3])),
        specks=tuple(_speck(row) for row in specks[:num_specks]) if "clutter" in defects else (),
    )


def _speck(row: NDArray[np.float64]) -> Speck:
    x, y, size, tone = row.tolist()
    return Speck(x, y, size=0.04 + 0.06 * size, tone=-60 + 120 * tone)


def render(scene: Scene, resolution: int = REFERENCE_WIDTH) -> Image.Image:
    """The scene as a square RGB picture, anti-aliased; the same scene gives the same pixels."""
    return Image.fromarray(render_array(scene, resolution))


def render_array(scene: Scene, resolution: int = REFERENCE_WIDTH) -> NDArray[np.uint8]:
    """The scene as uint8 [resolution, resolution, 3]."""
    fine = resolution * _SUPERSAMPLING
    y, x = _grid(fine)
    pixels = _ground(scene, x, y)
    for speck in scene.quality.specks:
        distance = np.hypot(x - speck.x, y - speck.y) - speck.size / 2
        pixels += (speck.tone * _coverage(distance, 1 / fine))[..., None]
    if scene.shadow is not None:
        pixels *= 1 - scene.shadow.strength * _shadow_mask(scene, scene.shadow, x, y)[..., None]
    for shape in scene.objects:
        alpha = _coverage(signed_distance(shape.kind, x - shape.x, y - shape.y, shape.size), 1 / fine)[..., None]
        pixels += alpha * (np.array(COLORS[shape.color], dtype=np.float32) - pixels)
    pixels = pixels.reshape(resolution, _SUPERSAMPLING, resolution, _SUPERSAMPLING, 3).mean((1, 3))
    return _develop(pixels, scene)


_SUPERSAMPLING = 3
_MIDDLE_GRAY = 140.0


def _grid(size: int) -> tuple[Floats, Floats]:
    centers = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centers[:, None], centers[None, :]


def _ground(scene: Scene, x: Floats, y: Floats) -> Floats:
    tone = scene.ground_shift + scene.gradient[0] * (x - 0.5) + scene.gradient[1] * (y - 0.5)
    return (np.array(GROUNDS[scene.ground], dtype=np.float32) + tone[..., None]).astype(np.float32)


def _coverage(distance: Floats, softness: float) -> Floats:
    return np.clip(0.5 - distance / softness, 0, 1)


def _shadow_mask(scene: Scene, shadow: Shadow, x: Floats, y: Floats) -> Floats:
    distances = [
        signed_distance(s.kind, x - s.x - shadow.dx, y - s.y - shadow.dy, s.size).astype(np.float32)
        for s in scene.objects
    ]
    return _coverage(np.min(distances, axis=0), 0.07)


def signed_distance(kind: str, x: Floats, y: Floats, size: float) -> Floats:
    """Distance to the outline of a shape around the origin, negative inside; exact near straight edges."""
    half = size / 2
    if kind == "square":
        return np.maximum(np.abs(x), np.abs(y)) - half * 0.92
    if kind == "ring":
        return np.abs(np.hypot(x, y) - half * 0.72) - half * 0.28
    if kind == "triangle":
        # Isosceles, apex up, as wide as high.
        slanted = (2 * np.abs(x) - y - half) / np.sqrt(5.0)
        return np.maximum(slanted, y - half).astype(np.float32)
    if kind == "cross":
        arm, reach = half * 0.34, half
        ax, ay = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(ax - arm, ay - reach), np.maximum(ax - reach, ay - arm))
    raise ValueError(f"no shape '{kind}'")


def _develop(pixels: Floats, scene: Scene) -> NDArray[np.uint8]:
    """Applies the defects of the picture-taking."""
    quality = scene.quality
    resolution = pixels.shape[0]
    if quality.saturation != 1:
        luma = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        pixels = luma[..., None] + quality.saturation * (pixels - luma[..., None])
    if quality.contrast != 1:
        pixels = _MIDDLE_GRAY + quality.contrast * (pixels - _MIDDLE_GRAY)
    if quality.blur > 0:
        pixels = blur(pixels, quality.blur * resolution / REFERENCE_WIDTH)
    if quality.noise > 0:
        noise = np.random.Generator(np.random.Philox(key=scene.noise_seed)).standard_normal(pixels.shape, np.float32)
        pixels = pixels + quality.noise * noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def blur(pixels: Floats, sigma: float) -> Floats:
    """Gaussian blur of [H, H, C] with clamped borders; sigma in pixels."""
    size = pixels.shape[0]
    positions = np.arange(size, dtype=np.float32)
    kernel = np.exp(-0.5 * ((positions[:, None] - positions[None, :]) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    return np.einsum("ih,hwc,jw->ijc", kernel, pixels, kernel, optimize=True).astype(np.float32)
