"""Draws scenes, anti-aliased, with the defects of the picture-taking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openmiro.lab.world import COLORS, GROUNDS, REFERENCE_WIDTH, Floats, Scene, Shadow


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
