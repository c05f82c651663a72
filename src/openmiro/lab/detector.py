"""Finds the colored shapes in a picture: the lab's exact judge, and the eyes of several of its rewards.

Grounds are neutral and shapes are vivid, so the chromatic plane of OKLab (Ottosson 2020) separates them, and a color's
hue survives blur, washing-out and anti-aliasing. Silhouettes are told apart by overlap with rendered templates after
scaling to one size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openmiro.lab.scenes import COLORS, SHAPES, Floats, blur, signed_distance

_GRID = 12
_MIN_AREA = 0.022
_MIN_CHROMA = 0.028
_NOISY = 0.009
_HUE_WIDTH = 0.30
_OVERLAP_SCALE = 0.05
_MAX_SIDE = 64
_WORKING_SIDE = 32


@dataclass(frozen=True)
class DetectedShape:
    """One object found in a picture.

    Attributes:
        shape, color: the likeliest names of `SHAPES` and `COLORS`.
        x, y: center of its bounding box; x to the right, y downwards; fractions of width and height.
        width, height: of its bounding box, fractions likewise.
        confidence: in [0, 1], how much it looks like any object of this world.
        shape_probabilities, color_probabilities: in the order of `SHAPES` and `COLORS`; each sums to 1.
    """

    shape: str
    color: str
    x: float
    y: float
    width: float
    height: float
    confidence: float
    shape_probabilities: tuple[float, ...]
    color_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Analysis:
    """A picture taken apart.

    Attributes:
        objects: what was found, largest first.
        lab: OKLab float32 [H, W, 3].
        amplitude: distance of the color from the ground's tint, [H, W].
        inside: where an object is, bool [H, W].
        ground: the OKLab color of the ground, [3].
    """

    objects: list[DetectedShape]
    lab: Floats
    amplitude: Floats
    inside: NDArray[np.bool_]
    ground: Floats


def detect(pixels: NDArray[np.uint8]) -> list[DetectedShape]:
    """The objects in a picture, uint8 [H, W, 3], largest first.

    Pictures with a side above 64 px are reduced first: the world's shapes need no more.
    """
    return analyze(pixels).objects


def analyze(pixels: NDArray[np.uint8]) -> Analysis:
    """Takes a picture, uint8 [H, W, 3], apart. The maps have its size, or that of its reduction (see `detect`)."""
    lab = oklab(reduced(pixels))
    size = np.hypot(lab[..., 1], lab[..., 2])
    dull = size <= quantile(size, 0.5)
    ground = lab[dull].mean(0)
    chroma = lab[..., 1:] - ground[1:]
    if float(chroma[dull].std()) > _NOISY:
        chroma = _smooth(chroma)
    amplitude, color_map = _segment(chroma)
    labels, num = label_regions(color_map)
    unrest = float(amplitude[dull].mean())
    found = [_describe(labels == i, amplitude, chroma, unrest) for i in _large_regions(labels, num)]
    return Analysis(sorted(found, key=lambda d: -d.width * d.height), lab, amplitude, color_map > 0, ground)


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture with its longer side at most 64 px; a larger one is averaged down to 32 px."""
    if max(pixels.shape[:2]) <= _MAX_SIDE:
        return pixels
    scale = _WORKING_SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def oklab(pixels: NDArray[np.uint8]) -> Floats:
    """sRGB uint8 [..., 3] to OKLab float32 [..., 3]."""
    return np.cbrt(_LINEAR[pixels] @ _TO_LMS.T) @ _TO_LAB.T


def quantile(values: Floats, share: float) -> float:
    """The value below which that share of the values lies, without interpolation (and its cost)."""
    flat = values.ravel()
    index = int(share * (flat.size - 1))
    return float(np.partition(flat, index)[index])


def label_regions(values: NDArray[np.integer]) -> tuple[NDArray[np.int32], int]:
    """4-connected regions of equal value; 0 is no region.

    Returns:
        Labels 1..num in the shape of `values`, and num. Runs of each line are joined by union-find.
    """
    runs = _runs(values)
    parent = list(range(len(runs)))
    first_above = 0  # of the runs that may touch the present one from above
    for i, (row, start, stop, value) in enumerate(runs):
        while runs[first_above][0] < row - 1:
            first_above += 1
        for j in range(first_above, i):
            other_row, other_start, other_stop, other_value = runs[j]
            if other_row == row:
                break
            if other_value == value and other_start < stop and start < other_stop:
                parent[_root(parent, i)] = _root(parent, j)
    names: dict[int, int] = {}
    labels = np.zeros(values.shape, dtype=np.int32)
    for i, (row, start, stop, _) in enumerate(runs):
        labels[row, start:stop] = names.setdefault(_root(parent, i), len(names) + 1)
    return labels, len(names)


def _runs(values: NDArray[np.integer]) -> list[tuple[int, int, int, int]]:
    """(row, start, stop, value) of every run of one value that is not 0, row by row."""
    height, width = values.shape
    begins = np.ones((height, width), dtype=bool)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    rows, starts = np.nonzero(begins)
    stops = np.append(starts[1:], width)
    stops[stops == 0] = width
    found = values[rows, starts]
    kept = found != 0
    return list(
        zip(rows[kept].tolist(), starts[kept].tolist(), stops[kept].tolist(), found[kept].tolist(), strict=True)
    )


def _root(parent: list[int], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


def _smooth(values: Floats) -> Floats:
    """Binomial 3x3 filter of [H, W, ...] with clamped borders."""
    down = 0.5 * values
    down[1:] += 0.25 * values[:-1]
    down[:-1] += 0.25 * values[1:]
    down[0] += 0.25 * values[0]
    down[-1] += 0.25 * values[-1]
    across = 0.5 * down
    across[:, 1:] += 0.25 * down[:, :-1]
    across[:, :-1] += 0.25 * down[:, 1:]
    across[:, 0] += 0.25 * down[:, 0]
    across[:, -1] += 0.25 * down[:, -1]
    return across


def _segment(chroma: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Amplitude [H, W], and 1 + index of the nearest hue where there is an object, else 0."""
    amplitude = np.hypot(chroma[..., 0], chroma[..., 1])
    visible = amplitude > _MIN_CHROMA
    nearest = np.where(visible, (chroma @ _HUES.T).argmax(-1), -1)
    present = np.flatnonzero(np.bincount(nearest[visible], minlength=1))
    if not len(present):
        return amplitude, np.zeros(amplitude.shape, dtype=np.int64)
    # Neighbors vote on the color, so that a speckled surface stays one object.
    ballots = np.where(nearest[..., None] == present, amplitude[..., None], np.float32(0))
    elected = _smooth(ballots).argmax(-1) if len(present) > 1 else np.zeros(amplitude.shape, dtype=np.int64)
    limits = np.full(len(present), np.inf, dtype=np.float32)
    for i in range(len(present)):
        strength = amplitude[visible & (elected == i)]
        if strength.size:
            limits[i] = 0.5 * quantile(strength, 0.8)
    return amplitude, np.where(visible & (amplitude > limits[elected]), present[elected] + 1, 0)


def _large_regions(labels: NDArray[np.int32], num: int) -> list[int]:
    areas = np.bincount(labels.ravel(), minlength=num + 1)
    return [i for i in range(1, num + 1) if areas[i] >= _MIN_AREA * labels.size]


def _describe(region: NDArray[np.bool_], amplitude: Floats, chroma: Floats, unrest: float) -> DetectedShape:
    height, width = region.shape
    top, bottom, left, right = _box(region)
    level = quantile(amplitude[region], 0.75)
    shapes, overlap = _shape_probabilities(_normalized(region, amplitude, level))
    colors = _color_probabilities(chroma[region].mean(0))
    tall, wide = (bottom - top) / height, (right - left) / width
    confidence = (
        _sigmoid((overlap - 0.66) / 0.05)
        * _sigmoid((level - 0.032) / 0.008)  # washed-out color
        * _sigmoid((0.26 - unrest / level) / 0.025)  # a ground as colorful as the object is noise
        * _sigmoid((min(tall / wide, wide / tall) - 0.6) / 0.06)
        * _sigmoid((math.sqrt(tall * wide) - 0.24) / 0.015)  # specks of noise are smaller than any object
    )
    return DetectedShape(
        shape=SHAPES[int(np.argmax(shapes))],
        color=tuple(COLORS)[int(np.argmax(colors))],
        x=float(left + right) / 2 / width,
        y=float(top + bottom) / 2 / height,
        width=float(wide),
        height=float(tall),
        confidence=confidence,
        shape_probabilities=tuple(shapes.tolist()),
        color_probabilities=tuple(colors.tolist()),
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -60.0), 60.0)))


def _box(region: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right); the ends are exclusive."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _normalized(region: NDArray[np.bool_], amplitude: Floats, level: float) -> Floats:
    """The region's coverage, cut to its bounding box and scaled to a square grid."""
    top, bottom, left, right = _box(region)
    coverage = np.minimum(amplitude[top:bottom, left:right] / max(level, 1e-6), 1)
    return _area_weights(coverage.shape[0]) @ coverage @ _area_weights(coverage.shape[1]).T


@lru_cache(maxsize=256)
def _area_weights(size: int) -> Floats:
    """[grid, size] matrix that averages `size` samples into `_GRID` cells by overlap."""
    edges = np.arange(_GRID + 1) * (size / _GRID)
    cells = np.arange(size)
    low, high = np.maximum(edges[:-1, None], cells), np.minimum(edges[1:, None], cells + 1)
    weights = np.clip(high - low, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _shape_probabilities(grid: Floats) -> tuple[Floats, float]:
    """Probability of each shape, and the overlap (soft intersection over union) with the best template."""
    bank = _templates()
    overlap = np.minimum(bank, grid).sum((-1, -2)) / np.maximum(bank, grid).sum((-1, -2))
    best = overlap.max(1)
    weights = np.exp((best - best.max()) / _OVERLAP_SCALE)
    return weights / weights.sum(), float(best.max())


def _color_probabilities(mean: Floats) -> Floats:
    angles = np.arctan2(_HUES[:, 1], _HUES[:, 0]) - np.arctan2(mean[1], mean[0])
    distance = np.abs((angles + np.pi) % (2 * np.pi) - np.pi)
    weights = np.exp(-0.5 * (np.minimum(distance, 1.5) / _HUE_WIDTH) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=1)
def _templates() -> Floats:
    """[shapes, blurs, grid, grid]: mean appearance over sizes and sub-pixel places."""
    return np.array([[_template(kind, sigma) for sigma in (0.0, 0.9, 1.5)] for kind in SHAPES], dtype=np.float32)


def _template(kind: str, sigma: float) -> Floats:
    canvas, fine = 24, 4
    grids = []
    centers = (np.arange(canvas * fine) + 0.5) / fine
    for size in (8.0, 9.5, 11.5, 14.0):
        for dx, dy in ((0.0, 0.0), (0.5, 0.25), (0.25, 0.75), (0.75, 0.5)):
            x, y = centers[None, :] - canvas / 2 - dx, centers[:, None] - canvas / 2 - dy
            inside = signed_distance(kind, x, y, size) < 0
            coverage = inside.reshape(canvas, fine, canvas, fine).mean((1, 3))
            if sigma:
                coverage = blur(coverage[..., None], sigma)[..., 0]
            level = quantile(coverage[coverage > 0.4], 0.75)
            grids.append(_normalized(coverage > 0.5 * level, coverage, level))
    return np.mean(grids, axis=0)


_LINEAR = np.array(
    [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255.0], dtype=np.float32
)
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)
_PALETTE = oklab(np.array(list(COLORS.values()), dtype=np.uint8))[:, 1:]
_HUES = _PALETTE / np.hypot(_PALETTE[:, 0], _PALETTE[:, 1])[:, None]
