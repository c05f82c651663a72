"""Everything that the lab's rewards look at in one picture, measured once and remembered for the next reward."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from openmiro.lab.detector import Analysis, DetectedShape, analyze, quantile
from openmiro.lab.scenes import COLORS, SHAPES, Floats

MAX_OBJECTS = 6
OBJECT_SIZE = 5 + len(SHAPES) + len(COLORS)
_REMEMBERED = 8192


@dataclass(frozen=True)
class Measurement:
    """What one picture shows.

    Attributes:
        objects: float32 [MAX_OBJECTS, OBJECT_SIZE], each row confidence, x, y, width, height, then the probabilities of
            shapes and of colors; zero where there is no object.
        aesthetic: 0 to 10.
        sharpness: 0 to about 100.
        shadow: -1 to 1, positive where shadows fall to the lower right.
        luck: two fixed standard normal numbers of this very picture.
    """

    objects: Floats
    aesthetic: float
    sharpness: float
    shadow: float
    luck: tuple[float, float]


def measure(image: Image.Image) -> Measurement:
    """Measures a picture of any size; other modes than RGB are converted."""
    if image.mode != "RGB":
        image = image.convert("RGB")
    return _measure(image.tobytes(), image.size)


@lru_cache(maxsize=_REMEMBERED)
def _measure(content: bytes, size: tuple[int, int]) -> Measurement:
    analysis = analyze(np.frombuffer(content, dtype=np.uint8).reshape(size[1], size[0], 3))
    return Measurement(
        objects=objects_table(analysis.objects),
        aesthetic=aesthetic(analysis),
        sharpness=sharpness(analysis.lab, analysis.ground),
        shadow=shadow(analysis),
        luck=_luck(content),
    )


def objects_table(objects: list[DetectedShape]) -> Floats:
    """The surest objects as the rows of `Measurement.objects`."""
    table = np.zeros((MAX_OBJECTS, OBJECT_SIZE), dtype=np.float32)
    surest = sorted(objects, key=lambda d: -d.confidence)[:MAX_OBJECTS]
    for row, d in zip(table, surest, strict=False):
        row[:] = (d.confidence, d.x, d.y, d.width, d.height, *d.shape_probabilities, *d.color_probabilities)
    return table


def aesthetic(analysis: Analysis) -> float:
    """Vivid color, contrast and a balanced composition, 0 to 10.

    It looks at nothing else, so it can be won by flooding a picture with color: a reward to be hacked.
    """
    amplitude = analysis.amplitude
    vividness = 1 - float(np.exp(-amplitude.mean() / 0.06))
    contrast = float(np.tanh(analysis.lab[..., 0].std() / 0.16))
    height, width = amplitude.shape
    weight = np.maximum(amplitude - 0.03, 0)
    total = float(weight.sum()) + 1e-3
    x = float((weight.sum(0) * (np.arange(width) + 0.5)).sum()) / width / total
    y = float((weight.sum(1) * (np.arange(height) + 0.5)).sum()) / height / total
    balance = float(np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / (2 * 0.1**2)))
    return 10 * (0.45 * vividness + 0.25 * contrast + 0.3 * balance)


def sharpness(lab: Floats, ground: Floats) -> float:
    """Steepness of the edges against the picture's own contrast, divided down by noise; 0 to about 100.

    Noise is the median response to the Laplacian difference mask of Immerkaer (1996), which edges hardly touch.
    """
    if min(lab.shape[:2]) < 3:
        return 0.0
    horizontal, vertical = np.diff(lab, axis=1)[:-1], np.diff(lab, axis=0)[:, :-1]
    steepness = np.sqrt((horizontal**2).sum(-1) + (vertical**2).sum(-1))
    contrast = quantile(np.sqrt(((lab - ground) ** 2).sum(-1)), 0.98)
    acutance = quantile(steepness, 0.98) / (contrast + 0.04)
    light = lab[..., 0]
    rows = light[:-2] - 2 * light[1:-1] + light[2:]
    response = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    noise = quantile(response, 0.5) / (6 * 0.6745)
    return 100 * acutance / (1 + noise / 0.012)


def shadow(analysis: Analysis) -> float:
    """How much darker the ground is on the objects' lower right than at their darkest other corner, -1 to 1."""
    inside = analysis.inside
    if not inside.any() or inside.all():
        return 0.0
    light = np.maximum(analysis.lab[..., 0], 0) ** 3  # OKLab's lightness is a cube root of luminance
    neutral = light[~inside]
    darkness = np.clip(1 - light / max(quantile(neutral, 0.6), 1e-4), -1, 1)
    step = max(1, round(0.09 * inside.shape[1]))
    near = _darkness_beside(inside, darkness, step, step)
    others = [_darkness_beside(inside, darkness, dx, dy) for dx, dy in ((-step, step), (-step, -step), (step, -step))]
    return near - max(others)


def _darkness_beside(inside: np.ndarray, darkness: Floats, dx: int, dy: int) -> float:
    moved = np.zeros_like(inside)
    height, width = inside.shape
    target = np.s_[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    source = np.s_[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    moved[target] = inside[source]
    moved &= ~inside
    return float(darkness[moved].mean()) if moved.any() else 0.0


def _luck(content: bytes) -> tuple[float, float]:
    digest = hashlib.blake2b(content, digest_size=16).digest()
    u, v = (int.from_bytes(digest[i : i + 8], "little") / 2**64 for i in (0, 8))
    radius = np.sqrt(-2 * np.log(1 - u))  # Box and Muller (1958)
    return float(radius * np.cos(2 * np.pi * v)), float(radius * np.sin(2 * np.pi * v))
