"""Reward targets as people write them, a mapping of names to numbers, as the levels a denoiser reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from openmiro.core.errors import ConfigError, TargetError
from openmiro.core.types import RewardSet
from openmiro.rewards.levels import LevelTables

RewardUnits = Literal["level", "raw"]
TargetValue = float | Sequence[float | None] | Tensor | None
"""One number for all pictures, one per prompt or per picture, or None for unknown."""


class Targets(NamedTuple):
    """Levels float32 [B, R] and whether they are known, bool [B, R], in the order of the checkpoint's rewards."""

    level: Tensor
    known: Tensor

    @staticmethod
    def unknown(num_images: int, num_rewards: int) -> Targets:
        """Nothing is asked of any reward."""
        return Targets(torch.zeros(num_images, num_rewards), torch.zeros(num_images, num_rewards, dtype=torch.bool))

    def rows(self, rows: slice) -> Targets:
        """Those of some of the pictures."""
        return Targets(self.level[rows], self.known[rows])

    def lowest(self) -> Targets:
        """Level 0 wherever a level is known: what reward guidance leads away from unless told otherwise."""
        return Targets(torch.zeros_like(self.level), self.known)

    def as_dict(self, rewards: RewardSet, image: int) -> dict[str, float]:
        """The known levels of one picture by name."""
        level, known = self.level[image].numpy(), self.known[image].tolist()
        # str gives the shortest decimal number that reads back as the same float32.
        return {name: float(str(level[r])) for r, name in enumerate(rewards.names) if known[r]}


def parse_targets(
    values: Mapping[str, TargetValue],
    rewards: RewardSet,
    levels: LevelTables | None,
    num_prompts: int,
    images_per_prompt: int,
    units: RewardUnits = "level",
) -> Targets:
    """Levels of all pictures; rewards that are not named are unknown.

    Args:
        values: by reward name: a number, a list (numbers or None) or a tensor with one entry per prompt or per picture,
            or None for unknown.
        rewards: the checkpoint's.
        levels: the checkpoint's level tables, needed for raw units.
        num_prompts: lists of this length are repeated for every picture of a prompt.
        images_per_prompt: pictures of one prompt.
        units: "level" in [0, 1], or "raw" in each reward's own unit.

    Raises:
        UnknownNameError: a reward that the checkpoint was not trained on; the message lists its own.
        TargetError: a number is not finite or out of range, a list has the wrong length, or raw units are asked of a
            checkpoint without level tables.
    """
    if units not in ("level", "raw"):
        raise ConfigError(f"reward_units must be 'level' or 'raw' (given: {units!r})")
    targets = Targets.unknown(num_prompts * images_per_prompt, len(rewards))
    for name, value in values.items():
        column = rewards.index(name)
        for row, number in enumerate(_per_image(name, value, num_prompts, images_per_prompt)):
            if number is not None:
                targets.level[row, column] = _to_level(name, number, units, levels)
                targets.known[row, column] = True
    return targets


def _per_image(name: str, value: TargetValue, num_prompts: int, images_per_prompt: int) -> list[float | None]:
    num_images = num_prompts * images_per_prompt
    if isinstance(value, Tensor):
        if value.ndim > 1:
            raise TargetError(f"the target of '{name}' must be a number or one number per picture, not {value.ndim}-d")
        value = value.tolist()
    if value is None or isinstance(value, int | float):
        return [value] * num_images
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TargetError(f"the target of '{name}' must be a number, a list, a tensor or None (given: {value!r})")
    if len(value) == num_images:
        return list(value)
    if len(value) == num_prompts:
        return [number for number in value for _ in range(images_per_prompt)]
    wanted = f"{num_prompts}" if images_per_prompt == 1 else f"{num_prompts} (per prompt) or {num_images} (per picture)"
    raise TargetError(f"the target of '{name}' has {len(value)} numbers, but {wanted} are needed")


def _to_level(name: str, number: float, units: RewardUnits, levels: LevelTables | None) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TargetError(f"the target of '{name}' must be a number or None (given: {number!r})")
    if not math.isfinite(number):
        raise TargetError(f"the target of '{name}' is {number}. Write None for a reward that does not matter.")
    if units == "raw":
        if levels is None:
            raise TargetError(
                f"'{name}' was given in raw units, but this checkpoint has no level tables to convert them."
                " Give levels in [0, 1] instead."
            )
        return levels.to_level(name, number)
    if not 0 <= number <= 1:
        raise TargetError(
            f"the target of '{name}' must lie in [0, 1], from the lowest to the highest level (given: {number:g})."
            " For a score in the reward's own unit use reward_units='raw' (--raw on the command line)."
        )
    return float(number)
