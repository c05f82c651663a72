"""One sampling call, checked and written out: a row per picture, and no default left open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.core.presets import GuidanceKind, SamplingPreset
from openmiro.core.types import RewardSet
from openmiro.flow.guidance import Interval
from openmiro.pipeline.targets import RewardUnits, Targets, TargetValue, parse_targets
from openmiro.rewards.levels import LevelTables

ResolvedGuidance = Literal["text", "reward", "joint"]


@dataclass(frozen=True)
class Request:
    """What is asked of each picture.

    Attributes:
        prompts: one per picture.
        negative_prompts: likewise, or None for the null text.
        target, avoid: levels [B, R] of the positive and the negative branch.
    """

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...] | None
    target: Targets
    avoid: Targets

    @classmethod
    def parse(
        cls,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None,
        images_per_prompt: int,
        reward_targets: Mapping[str, TargetValue] | None,
        negative_reward_targets: Mapping[str, TargetValue] | None,
        units: RewardUnits,
        preset: SamplingPreset,
        rewards: RewardSet,
        levels: LevelTables | None,
    ) -> Request:
        """The request that a call's arguments make, with the preset's targets where none are given.

        Raises:
            UnknownNameError, TargetError, ConfigError: as `MiroPipeline.__call__`.
        """
        prompts = _texts(prompt, "prompt")
        if images_per_prompt < 1:
            raise ConfigError(f"num_images_per_prompt must be at least 1 (given: {images_per_prompt})")
        size = (len(prompts), images_per_prompt)

        def parse(given: Mapping[str, TargetValue] | None, default: Mapping[str, float]) -> Targets:
            # A preset's numbers are levels, whatever units the call's own numbers have.
            if given is None:
                return parse_targets(default, rewards, levels, *size)
            return parse_targets(given, rewards, levels, *size, units)

        target = parse(reward_targets, preset.targets)
        if negative_reward_targets is None and reward_targets is not None:
            avoid = target.lowest()
        else:
            avoid = parse(negative_reward_targets, preset.avoid)
        return cls(
            _repeat(prompts, images_per_prompt), _negative(negative_prompt, prompts, images_per_prompt), target, avoid
        )

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: slice) -> Request:
        """Some of the pictures."""
        negative = None if self.negative_prompts is None else self.negative_prompts[rows]
        return Request(self.prompts[rows], negative, self.target.rows(rows), self.avoid.rows(rows))

    def describe(self, image: int, rewards: RewardSet) -> dict[str, Any]:
        """The texts and levels of one picture, for its metadata."""
        return {
            "prompt": self.prompts[image],
            "negative_prompt": None if self.negative_prompts is None else self.negative_prompts[image],
            "targets": self.target.as_dict(rewards, image),
            "avoid": self.avoid.as_dict(rewards, image),
        }


def resolve_guidance(
    asked: GuidanceKind, preset: SamplingPreset | None, request: Request, num_rewards: int
) -> ResolvedGuidance:
    """Which guidance "auto" means, and whether the model can do what is asked.

    Args:
        asked: the call's argument.
        preset: whose guidance "auto" takes first, or None.
        request: what is known decides the rest.
        num_rewards: R.

    Raises:
        UnknownNameError: no such guidance.
        ConfigError: reward guidance without rewards or without a difference between the branches.
    """
    if asked not in get_args(GuidanceKind):
        raise UnknownNameError("guidance", str(asked), get_args(GuidanceKind))
    kind = preset.guidance if asked == "auto" and preset is not None else asked
    any_known = bool(request.target.known.any() or request.avoid.known.any())
    if kind == "auto":
        kind = "text" if not any_known else "joint" if request.negative_prompts is not None else "reward"
    if kind == "reward" and num_rewards == 0:
        raise ConfigError("reward guidance needs a model trained with rewards; this one was not. Use guidance='text'.")
    if kind == "reward" and not any_known:
        raise ConfigError("reward guidance needs a target: give reward_targets, or use guidance='text'")
    if kind == "reward" and request.negative_prompts is not None:
        raise ConfigError("reward guidance keeps the text in both branches; a negative_prompt needs 'text' or 'joint'")
    return kind


def resolve_scale(asked: float | None, convention: str, preset: SamplingPreset) -> float:
    """The guidance scale in diffusers' sense (1 is off).

    Raises:
        ConfigError: not finite, or an unknown convention.
    """
    if convention not in ("diffusers", "paper"):
        raise ConfigError(f"guidance_convention must be 'diffusers' or 'paper' (given: {convention!r})")
    if asked is None:
        return preset.guidance_scale
    if not math.isfinite(asked):
        raise ConfigError(f"guidance_scale must be a finite number (given: {asked})")
    return float(asked) + (1.0 if convention == "paper" else 0.0)


def resolve_interval(asked: tuple[float, float] | None, preset: SamplingPreset) -> Interval:
    """The noise levels at which guidance is on.

    Raises:
        ConfigError: not 0 <= low <= high <= 1.
    """
    low, high = asked or preset.guidance_interval or Interval()
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"guidance_interval must be (low, high) with 0 <= low <= high <= 1 (given: {low}, {high})")
    return Interval(float(low), float(high))


def _texts(value: str | Sequence[str], what: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not texts:
        raise ConfigError(f"{what} is an empty list; give at least one text")
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{what} must be text or a list of texts (given: {text!r})")
    return texts


def _negative(
    value: str | Sequence[str] | None, prompts: tuple[str, ...], images_per_prompt: int
) -> tuple[str, ...] | None:
    if value is None:
        return None
    texts = _texts(value, "negative_prompt")
    if isinstance(value, str):
        texts = texts * len(prompts)
    if len(texts) != len(prompts):
        raise ConfigError(f"{len(texts)} negative prompts were given for {len(prompts)} prompts")
    return _repeat(texts, images_per_prompt)


def _repeat(texts: tuple[str, ...], times: int) -> tuple[str, ...]:
    return tuple(text for text in texts for _ in range(times))
