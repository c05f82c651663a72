"""Named sampling settings, as they stand in recipes, travel in checkpoints and are looked up by the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from openmiro.core.config import Config
from openmiro.core.errors import UnknownNameError

GuidanceKind = Literal["auto", "text", "reward", "joint"]
DEFAULT_PRESET = "default"


class SamplingPreset(Config):
    """Defaults of a sampling call.

    Attributes:
        targets, avoid: levels in [0, 1] by reward; unnamed rewards are unknown. ``null`` takes out a reward that an
            extended recipe names.
        guidance: which guidance; "auto" lets the pipeline choose by what is known.
        guidance_scale: 1 is off.
        guidance_interval: noise levels (low, high) at which guidance is on; None is everywhere.
        num_steps: solver steps.
        solver: its name.
    """

    targets: dict[str, float] = {}
    avoid: dict[str, float] = {}
    guidance: GuidanceKind = "auto"
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    num_steps: int = Field(default=30, ge=1)
    solver: str = "heun"

    @field_validator("targets", "avoid", mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value

    @field_validator("targets", "avoid")
    @classmethod
    def _levels(cls, value: dict[str, float]) -> dict[str, float]:
        for name, level in value.items():
            if not 0 <= level <= 1:
                raise ValueError(f"the level of '{name}' must lie in [0, 1]")
        return value


class SamplingSettings(Config):
    """The default preset and named others."""

    default: SamplingPreset = SamplingPreset()
    presets: dict[str, SamplingPreset] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return (DEFAULT_PRESET, *self.presets)

    def preset(self, name: str | None) -> SamplingPreset:
        """A preset by name; None is the default.

        Raises:
            UnknownNameError: no such preset; the message lists those there are.
        """
        if name is None or name == DEFAULT_PRESET:
            return self.default
        if name not in self.presets:
            raise UnknownNameError("preset", name, self.names)
        return self.presets[name]
