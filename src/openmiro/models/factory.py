"""Builds the denoiser that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openmiro.core.errors import ConfigError
from openmiro.core.registry import Registry
from openmiro.core.types import Denoiser

DENOISERS = Registry(
    kind="denoiser",
    builtin={"dit": "openmiro.models.dit:DiT"},
    group="openmiro.denoisers",
)
"""Kind -> class with a `config_class` and a constructor that takes the parsed settings."""


def build_denoiser(settings: Mapping[str, Any]) -> Denoiser:
    """The denoiser of settings such as ``{"kind": "dit", "latent_shape": [16, 6, 6], ...}``, freshly initialized.

    Its `config.dump()` gives the settings back. Weights follow torch's global seed.

    Raises:
        UnknownNameError: no such kind, or a key that this kind does not have.
        ConfigError: no kind, or a value out of range.
    """
    kind = settings.get("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"the denoiser's settings need a 'kind': one of {', '.join(DENOISERS.names())}")
    cls = DENOISERS.resolve(kind)
    return cls(cls.config_class.parse(settings, where=f"denoiser '{kind}'"))
