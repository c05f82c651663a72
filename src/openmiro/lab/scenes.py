"""Random scenes. Also the front door of the world: its vocabulary and its rendering can be imported from here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmiro.lab.rendering import blur, render, render_array, signed_distance
from openmiro.lab.world import (
    COLORS,
    GROUNDS,
    REFERENCE_WIDTH,
    SHAPES,
    Arrangement,
    Floats,
    LabSettings,
    Quality,
    Scene,
    Shadow,
    Shape,
    Speck,
    Tag,
)

__all__ = [
    "COLORS",
    "GROUNDS",
    "REFERENCE_WIDTH",
    "SHAPES",
    "Arrangement",
    "Floats",
    "LabSettings",
    "Quality",
    "Scene",
    "Shadow",
    "Shape",
    "Speck",
    "Tag",
    "blur",
    "render",
    "render_array",
    "sample_scene",
    "signed_distance",
]

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
