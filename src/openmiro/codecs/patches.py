"""A small latent codec fitted in closed form: whitened principal components of non-overlapping patches.

For patches x in R^(3 p p) with mean m and covariance U diag(s^2) U^T, keeping the k largest s:

    latent z = diag(1/s) U_k^T (x - m)          picture x = m + U_k diag(s) z

so every latent channel has zero mean and unit variance over the data it was fitted on. A diffusion model learns such
latents far faster than raw pixels, because the high-variance directions no longer drown the others.

With `sharpen`, the decoder is instead the least-squares linear map from a latent and its eight neighbors to the patch:
what neighbors have in common tells part of what the dropped components held.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from openmiro.codecs.files import (
    CODEC_FILE,
    WEIGHTS_FILE,
    load_tensors,
    read_header,
    save_tensors,
    tensors_digest,
    write_header,
)
from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import ConfigError, DamagedFileError, DataError

_SMALLEST_STD = 0.5 / 255
"""Floor of a component's spread, in pixel units of [-1, 1]: below the rounding of 8-bit pictures there is no signal."""
_RIDGE = 1e-3
"""Tikhonov term of the sharpening decoder, in units of the (unit) latent variance."""

_PRIOR_PATCHES = 1000
"""How many patches of evidence it takes for the sharpening decoder to move half way from the plain one."""
_CHUNK = 256


class PatchSettings(Config):
    """Settings of `PatchCodec`.

    Attributes:
        patch_size: p; a picture's side must be a multiple of it.
        num_channels: how many components are kept, at most 3 p p.
        sharpen: decode a patch from its 3 x 3 neighborhood of latents. It does not touch the latents, and on lab
            pictures not seen before it gains 0.6 to 2 dB at every size tried (docs/experiments/patch-codec.md).
        max_images: how many pictures `fit` looks at; the first ones that arrive.
    """

    patch_size: int = Field(default=4, ge=1, le=64)
    num_channels: int = Field(default=12, ge=1)
    sharpen: bool = True
    max_images: int = Field(default=20_000, ge=1)

    def model_post_init(self, context: Any) -> None:
        largest = 3 * self.patch_size**2
        if self.num_channels > largest:
            raise ConfigError(
                f"a {self.patch_size} x {self.patch_size} RGB patch has {largest} dimensions, so num_channels can be"
                f" {largest} at most (given: {self.num_channels})"
            )


class PatchCodec:
    """Latents [B, num_channels, h / p, w / p] of pixels [B, 3, h, w] in [-1, 1].

    Attributes:
        mean: [3 p p] of a patch.
        encoder: [k, 3 p p], rows diag(1/s) U_k^T.
        decoder: [3 p p, k], or [3 p p, k, 3, 3] with `sharpen`.
    """

    kind: ClassVar[str] = "patch"

    def __init__(self, settings: PatchSettings | None = None, weights: dict[str, Tensor] | None = None) -> None:
        self.settings = settings or PatchSettings()
        self._weights = weights or {}

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """The codec before fitting."""
        return cls(PatchSettings.parse(settings, "the settings of the patch codec"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The codec that `save` wrote.

        Raises:
            DamagedFileError: the weights do not fit the settings.
        """
        codec = cls.build(read_header(folder / CODEC_FILE)[1])
        path = folder / WEIGHTS_FILE
        weights = load_tensors(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if shapes != codec._expected_shapes():
            raise DamagedFileError(f"{path} holds {shapes}, but {CODEC_FILE} asks for {codec._expected_shapes()}")
        return cls(codec.settings, weights)

    @property
    def name(self) -> str:
        """Such as "patch4x12": patch size and channels; "patch4x12-plain" without the sharpening decoder."""
        s = self.settings
        return f"patch{s.patch_size}x{s.num_channels}{'' if s.sharpen else '-plain'}"

    @property
    def needs_fit(self) -> bool:
        """True until `fit`."""
        return not self._weights

    def fit(self, batches: Iterable[Tensor]) -> PatchCodec:
        """The codec fitted to pictures.

        Sums are taken over pixels rounded to their 8-bit levels: integers add exactly in float64, so the result does
        not depend on how the pictures were cut into batches, nor on the number of threads that add.

        Args:
            batches: pixels [B, 3, h, w] in [-1, 1], all of one size where `sharpen` is set.

        Raises:
            DataError: no pictures came.
            ConfigError: a picture's side is no multiple of the patch size.
        """
        size, remaining = self.settings.patch_size, self.settings.max_images
        dim = 3 * size**2
        total, products = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
        num_patches, kept = 0, []
        for batch in batches:
            levels = _to_levels(batch[:remaining])
            patches = _patchify(levels.double(), size).flatten(0, 2)
            total += patches.sum(0)
            products += patches.T @ patches
            num_patches += len(patches)
            remaining -= len(levels)
            if self.settings.sharpen:
                kept.append(levels)
            if remaining <= 0:
                break
        if num_patches == 0:
            raise DataError("the patch codec cannot be fitted: no picture could be read")
        weights = _components(total, products, num_patches, self.settings.num_channels)
        codec = PatchCodec(self.settings, weights)
        if self.settings.sharpen:
            weights["decoder"] = codec._neighborhood_decoder(kept)
        return codec

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(num_channels, resolution / p, resolution / p).

        Raises:
            ConfigError: the resolution is no multiple of the patch size.
        """
        _check_multiple(resolution, resolution, self.settings.patch_size)
        side = resolution // self.settings.patch_size
        return (self.settings.num_channels, side, side)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Whitened components [B, k, h / p, w / p] in float32, and no standard deviation: the map is deterministic."""
        mean, encoder = self._weight("mean"), self._weight("encoder")
        patches = _patchify(pixels.to(mean), self.settings.patch_size)
        return ((patches - mean) @ encoder.T).permute(0, 3, 1, 2).contiguous(), None

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, h, w], clamped to [-1, 1]."""
        mean, decoder = self._weight("mean"), self._weight("decoder")
        if self.settings.sharpen:
            # The border's outer neighbors are zero: the mean patch, as it was when the decoder was fitted.
            patches = F.conv2d(latents.to(mean), decoder, padding=1).permute(0, 2, 3, 1) + mean
        else:
            patches = latents.to(mean).permute(0, 2, 3, 1) @ decoder.T + mean
        return _unpatchify(patches, self.settings.patch_size).clamp(-1, 1)

    def to(self, device: torch.device | str) -> Self:
        """The codec with its weights on a device."""
        self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}
        return self

    def save(self, folder: Path) -> None:
        """Writes weights.safetensors, then codec.json."""
        self._weight("encoder")
        save_tensors(self._weights, folder / WEIGHTS_FILE)
        write_header(folder / CODEC_FILE, self.kind, self.settings.dump())

    def fingerprint(self) -> str:
        """Of the settings and the weights' bytes."""
        self._weight("encoder")
        return fingerprint({"kind": self.kind, **self.settings.dump(), "weights": tensors_digest(self._weights)})

    def _weight(self, name: str) -> Tensor:
        if self.needs_fit:
            raise ConfigError(f"the codec {self.name} was not fitted yet: call fit(batches of pixels) first")
        return self._weights[name]

    def _expected_shapes(self) -> dict[str, tuple[int, ...]]:
        dim, channels = 3 * self.settings.patch_size**2, self.settings.num_channels
        neighbors = (3, 3) if self.settings.sharpen else ()
        return {"mean": (dim,), "encoder": (channels, dim), "decoder": (dim, channels, *neighbors)}

    def _neighborhood_decoder(self, kept: list[Tensor]) -> Tensor:
        """Centered patches [3 p p] from the 9 k latents around them: [3 p p, k, 3, 3].

        Ridge regression of what the plain decoder leaves over, added to it: few pictures fall back on the plain one.
        """
        channels, size = self.settings.num_channels, self.settings.patch_size
        gram = torch.zeros(9 * channels, 9 * channels, dtype=torch.float64)
        cross = torch.zeros(9 * channels, 3 * size**2, dtype=torch.float64)
        count = 0
        for levels in torch.cat(kept).split(_CHUNK):  # cut evenly, so that the caller's batches leave no trace
            pixels = _to_pixels(levels)
            latents = self.encode(pixels)[0]
            around = F.unfold(latents, 3, padding=1).transpose(1, 2).flatten(0, 1).double()
            patches = _patchify(pixels, size) - self._weights["mean"]
            left_over = patches - latents.permute(0, 2, 3, 1) @ self._weights["decoder"].T
            gram += around.T @ around
            cross += around.T @ left_over.flatten(0, 2).double()
            count += len(around)
        gram.diagonal().add_(_RIDGE * count + _PRIOR_PATCHES)
        decoder = torch.linalg.solve(gram, cross).T.reshape(-1, channels, 3, 3).float()
        decoder[:, :, 1, 1] += self._weights["decoder"]
        return decoder.contiguous()


def _components(total: Tensor, products: Tensor, count: int, num_channels: int) -> dict[str, Tensor]:
    """Mean, encoder and decoder from sums over 8-bit levels."""
    mean = total / count
    covariance = products / count - mean[:, None] * mean[None, :]
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:num_channels], vectors.flip(1)[:, :num_channels]
    # An eigenvector's sign is arbitrary; fixing it makes the codec reproducible.
    largest = vectors.abs().argmax(0)
    vectors = vectors * vectors.gather(0, largest[None]).sign()
    std = (values.clamp_min(0).sqrt() / 127.5).clamp_min(_SMALLEST_STD)
    return {
        "mean": (mean / 127.5 - 1).float(),
        "encoder": (vectors / std).T.float().contiguous(),
        "decoder": (vectors * std).float().contiguous(),
    }


def _to_levels(pixels: Tensor) -> Tensor:
    """8-bit levels, uint8 [B, 3, h, w], of pixels in [-1, 1]."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def _to_pixels(levels: Tensor) -> Tensor:
    return levels.float() / 127.5 - 1


def _check_multiple(height: int, width: int, size: int) -> None:
    if height % size or width % size or not height or not width:
        near = max(size, round(height / size) * size)
        raise ConfigError(
            f"pictures of {height} x {width} pixels cannot be cut into patches of {size}; use a multiple of {size},"
            f" such as {near}"
        )


def _patchify(pixels: Tensor, size: int) -> Tensor:
    """[B, 3, h, w] to [B, h / p, w / p, 3 p p]."""
    batch, channels, height, width = pixels.shape
    _check_multiple(height, width, size)
    cut = pixels.reshape(batch, channels, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, height // size, width // size, -1)


def _unpatchify(patches: Tensor, size: int) -> Tensor:
    """The inverse of `_patchify`."""
    batch, rows, columns, _ = patches.shape
    cut = patches.reshape(batch, rows, columns, 3, size, size)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, rows * size, columns * size)
