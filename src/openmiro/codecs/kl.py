"""Any AutoencoderKL of diffusers as a codec: posterior mean and standard deviation, normalized."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from openmiro.codecs.files import (
    CODEC_FILE,
    read_header,
    slug,
    tensors_digest,
    torch_dtype,
    write_header,
)
from openmiro.codecs.pretrained import Pretrained, PretrainedSettings
from openmiro.core.errors import ConfigError, DamagedFileError, ProvenanceError
from openmiro.core.registry import require

SDXL_STD = (7.8518, 5.8465, 6.8716, 5.3140)
SDXL_MEAN = (-0.3480, 0.3754, 0.0419, 2.4331)
"""Per-channel statistics of SDXL's raw latents; with a target deviation of 0.5 they are the reference's constants."""
_SDXL_SCALING_FACTOR = 0.13025
_WEIGHTS_FOLDER = "vae"
_PATTERNS = ("config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model*.safetensors*")


class KLSettings(PretrainedSettings):
    """Settings of `AutoencoderKLCodec`.

    Attributes, besides those of `PretrainedSettings`:
        source: a folder in diffusers' layout, or a Hub repository.
        dtype: of weights and arithmetic. float16 overflows inside SDXL's VAE and is refused.
        normalization: "auto" (SDXL's channels where the scaling factor is SDXL's, else what the configuration says),
            "channels" (the two lists below), or "scalar" (the configuration's scaling factor and shift).
        channel_scale, channel_bias: latent = raw * scale + bias, for "channels".
    """

    dtype: str = "float32"
    normalization: Literal["auto", "channels", "scalar"] = "auto"
    channel_scale: tuple[float, ...] = ()
    channel_bias: tuple[float, ...] = ()


class AutoencoderKLCodec(Pretrained[KLSettings]):
    """Normalized latents [B, C, h / f, w / f] of a variational autoencoder.

    The weights are read at first use. `encode` keeps the posterior's mean and deviation, so that training can draw a
    fresh sample every epoch.
    """

    kind: ClassVar[str] = "kl"
    what: ClassVar[str] = "the autoencoder"
    patterns: ClassVar[tuple[str, ...]] = _PATTERNS
    needs_fit: ClassVar[bool] = False

    def __init__(self, settings: KLSettings) -> None:
        refused = {"float16": "its decoder overflows (known for SDXL's VAE), which gives black pictures"}
        self._dtype = torch_dtype(settings.dtype, "an AutoencoderKL", refused)
        if settings.normalization == "channels" and not settings.channel_scale:
            raise ConfigError("normalization 'channels' needs channel_scale and channel_bias")
        if len(settings.channel_scale) != len(settings.channel_bias):
            raise ConfigError("channel_scale and channel_bias must have one number per latent channel each")
        self.settings = settings
        self._device = torch.device("cpu")

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """The codec with the given settings; no weights are read yet."""
        return cls(KLSettings.parse(settings, "the settings of the kl codec"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The codec that `save` wrote.

        Raises:
            ProvenanceError: it refers to weights that have changed since.
        """
        codec = cls.build(read_header(folder / CODEC_FILE)[1])
        if (folder / _WEIGHTS_FOLDER / "config.json").is_file():
            codec._folder = folder / _WEIGHTS_FOLDER
        return codec

    @cached_property
    def model(self) -> Any:
        """The diffusers module, in evaluation mode.

        Raises:
            MissingExtraError: diffusers is not installed.
            MissingFileError: the source cannot be found.
            DamagedFileError: its files are not a whole AutoencoderKL.
        """
        diffusers = require("diffusers", "an AutoencoderKL codec")
        folder, _ = self._located
        try:
            model = diffusers.AutoencoderKL.from_pretrained(
                str(folder), use_safetensors=True, torch_dtype=self._dtype, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"{folder} does not hold an AutoencoderKL as safetensors: {error}") from None
        model = model.eval().requires_grad_(False)
        digest = tensors_digest(model.state_dict()) if self.settings.weights else ""
        if digest != self.settings.weights:
            raise ProvenanceError(f"the autoencoder in {folder} is not the one this codec was saved with")
        return model.to(self._device)

    @property
    def name(self) -> str:
        """Such as "kl-sdxl-vae"."""
        return f"kl-{slug(self.settings.source)}"

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Scale and bias [C, 1, 1] of the normalization."""
        config = self.model.config
        channels = config.latent_channels
        kind, scale, bias = self.settings.normalization, self.settings.channel_scale, self.settings.channel_bias
        factor, shift = config.scaling_factor, getattr(config, "shift_factor", None) or 0.0
        if kind == "auto" and channels == len(SDXL_STD) and abs(factor - _SDXL_SCALING_FACTOR) < 1e-9:
            scale = tuple(0.5 / std for std in SDXL_STD)
            bias = tuple(-mean * s for mean, s in zip(SDXL_MEAN, scale))
        elif kind == "auto" and getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
            scale = tuple(factor / std for std in config.latents_std)
            bias = tuple(-mean * s for mean, s in zip(config.latents_mean, scale))
        elif kind != "channels":
            scale, bias = (factor,) * channels, (-shift * factor,) * channels
        if len(scale) != channels:
            raise ConfigError(f"the autoencoder has {channels} latent channels, but {len(scale)} scales were given")
        return _column(scale, self._device), _column(bias, self._device)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, resolution / f, resolution / f).

        Raises:
            ConfigError: the resolution is no multiple of the downsampling factor f.
        """
        factor = 2 ** (len(self.model.config.block_out_channels) - 1)
        if resolution % factor or resolution < factor:
            raise ConfigError(f"this autoencoder needs a resolution that is a multiple of {factor}, not {resolution}")
        return (self.model.config.latent_channels, resolution // factor, resolution // factor)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation of the posterior, normalized, float32 [B, C, H, W]."""
        model = self.model
        posterior = model.encode(pixels.to(self._device, self._dtype)).latent_dist
        scale, bias = self._affine
        return posterior.mean.float() * scale + bias, posterior.std.float() * scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, h, w] in float32, clamped to [-1, 1]."""
        model = self.model
        scale, bias = self._affine
        raw = (latents.to(self._device).float() - bias) / scale
        return model.decode(raw.to(self._dtype)).sample.float().clamp(-1, 1)

    def to(self, device: torch.device | str) -> Self:
        """The codec with its weights on a device."""
        self._device = torch.device(device)
        if "model" in self.__dict__:
            self.model.to(self._device)
        self.__dict__.pop("_affine", None)
        return self

    def save(self, folder: Path) -> None:
        """Writes codec.json, and a copy of the weights where they came from a local folder that is to be kept."""
        settings = self._pinned()
        if settings.revision is None and settings.keep == "copy":
            self.model.save_pretrained(folder / _WEIGHTS_FOLDER, safe_serialization=True)
            settings = settings.model_copy(update={"source": slug(settings.source)})
        write_header(folder / CODEC_FILE, self.kind, settings.dump())


def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)
