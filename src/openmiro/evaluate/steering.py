"""Does a model give what is asked of it? Strips along one reward, and models or settings side by side.

Everything measured here is a frozen record of plain numbers, so that it can be stored, read again and drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from PIL.Image import Image
from pydantic import model_validator

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError
from openmiro.core.seeds import numpy_generator
from openmiro.core.types import RewardModel
from openmiro.data.stats import spearman
from openmiro.evaluate.geneval import Count, evaluate_geneval
from openmiro.evaluate.intervals import Estimate, bootstrap_mean, mean_of_shares, wilson
from openmiro.lab.prompts import Prompt
from openmiro.rewards.base import score_pairs
from openmiro.rewards.level_table import LevelTable

ASKED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Target levels of a strip."""


def bootstrap_difference(first: ArrayLike, second: ArrayLike, seed: int = 0, num_resamples: int = 2000) -> Estimate:
    """Mean of first - second over the same prompts and seeds, pairs resampled together, with its 95 % interval.

    Raises:
        ConfigError: the lists have different lengths.
    """
    a, b = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    if a.size != b.size:
        raise ConfigError(f"a paired difference needs two lists of one length (given: {a.size} and {b.size})")
    return bootstrap_mean(a - b, seed=seed, num_resamples=num_resamples)


class Draw(Protocol):
    """Draws one picture per prompt."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], targets: Mapping[str, float]) -> list[Image]: ...


class Strip(Config):
    """One reward asked for at several levels, everything else unknown, with the same prompts and seeds at each.

    Attributes:
        reward, unit: names.
        asked: target levels.
        wanted: the raw score that stands for each target level.
        obtained: raw scores [len(asked)][num prompts].
        levels: levels of the obtained scores, likewise.
    """

    reward: str
    unit: str
    asked: tuple[float, ...]
    wanted: tuple[float, ...]
    obtained: tuple[tuple[float, ...], ...]
    levels: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _rectangular(self) -> Strip:
        sizes = {len(row) for row in (*self.obtained, *self.levels)}
        if not (len(self.asked) == len(self.wanted) == len(self.obtained) == len(self.levels)) or len(sizes) != 1:
            raise ValueError("a strip needs as many scores at every level that was asked for")
        return self

    @property
    def num_pictures(self) -> int:
        return sum(len(row) for row in self.obtained)

    @property
    def raw_means(self) -> list[Estimate]:
        """Mean raw score at each target level, with its 95 % interval."""
        return [bootstrap_mean(row) for row in self.obtained]

    @property
    def level_means(self) -> list[Estimate]:
        """Mean level at each target level, with its 95 % interval."""
        return [bootstrap_mean(row) for row in self.levels]

    @property
    def rank_correlation(self) -> float:
        """Spearman's correlation of asked and obtained along each prompt's own strip, averaged over prompts.

        Prompts whose pictures all score the same are left out; NaN where that leaves none.
        """
        found = np.array([spearman(self.asked, strip) for strip in zip(*self.obtained, strict=True)])
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    @property
    def pooled_rank_correlation(self) -> float:
        """Spearman's correlation of asked and obtained over all pictures at once.

        The prompt's own share in every score keeps it lower; five tied targets alone limit it to 0.98.
        """
        asked = np.repeat(self.asked, len(self.obtained[0]))
        return spearman(asked, np.concatenate([np.asarray(row) for row in self.obtained]))

    @property
    def mean_rank_correlation(self) -> float:
        """Spearman's correlation of asked levels and mean obtained scores."""
        return spearman(self.asked, [float(np.mean(row)) for row in self.obtained])


def measure_strip(
    draw: Draw,
    model: RewardModel,
    table: LevelTable,
    prompts: Sequence[str],
    seeds: Sequence[int],
    asked: Sequence[float] = ASKED,
) -> tuple[Strip, list[list[Image]]]:
    """Asks for one reward at several levels with the same prompts and seeds.

    Args:
        draw: draws pictures with targets; rewards that are not named are unknown.
        model: the reward.
        table: its levels.
        prompts, seeds: one picture each at every level.
        asked: target levels.

    Returns:
        The measurement, and the pictures [len(asked)][len(prompts)].
    """
    pictures = [draw(prompts, seeds, {model.spec.name: level}) for level in asked]
    scores = [score_pairs(model, images, list(prompts)) for images in pictures]
    return make_strip(table, asked, scores), pictures


def make_strip(table: LevelTable, asked: Sequence[float], scores: Sequence[ArrayLike]) -> Strip:
    """The strip of scores that were measured already.

    Args:
        table: levels of the reward.
        asked: target levels.
        scores: raw scores [len(asked)][num prompts].
    """
    return Strip(
        reward=table.spec.name,
        unit=table.spec.unit,
        asked=tuple(asked),
        wanted=tuple(float(v) for v in table.inverse_array(list(asked))),
        obtained=tuple(tuple(map(float, np.asarray(row))) for row in scores),
        levels=tuple(tuple(map(float, table.transform(row)[0])) for row in scores),
    )


class Arm(Config):
    """One model with one way of sampling, judged on a list of prompts.

    Attributes:
        name: of the arm.
        correct: whether each picture shows what its prompt asks for.
        tags: of each prompt.
        color: whether each picture shows the color asked for; None where its prompt does not name exactly one.
        scores: raw scores of each picture by reward.
    """

    name: str
    correct: tuple[bool, ...]
    tags: tuple[str, ...]
    color: tuple[bool | None, ...]
    scores: dict[str, tuple[float, ...]]

    def tag(self, tag: str) -> Estimate:
        """Share of successes among one tag's prompts, with Wilson's 95 % interval."""
        chosen = [c for c, t in zip(self.correct, self.tags, strict=True) if t == tag]
        return wilson(sum(chosen), len(chosen))

    @property
    def tag_names(self) -> list[str]:
        """In the order of their first prompt."""
        return list(dict.fromkeys(self.tags))

    @property
    def overall(self) -> Estimate:
        """Mean over tags, as GenEval reports it."""
        return mean_of_shares([self.tag(t) for t in self.tag_names])

    @property
    def requested_color(self) -> Estimate:
        """Share of pictures with the color asked for, among prompts that name one object with a color."""
        known = [c for c in self.color if c is not None]
        return Count(sum(known), len(known)).share

    def reward(self, name: str) -> Estimate:
        """Mean raw score with its 95 % interval."""
        return bootstrap_mean(self.scores[name])


def judge_arm(name: str, images: Sequence[Image], prompts: Sequence[Prompt], rewards: Sequence[RewardModel]) -> Arm:
    """Judges picture i by prompt i: the exact verifier and every reward."""
    texts = [p.text for p in prompts]
    verdicts = evaluate_geneval(images, prompts).verdicts
    return Arm(
        name=name,
        correct=tuple(v.correct for v in verdicts),
        tags=tuple(p.tag.value for p in prompts),
        color=tuple(v.color for v in verdicts),
        scores={m.spec.name: tuple(map(float, score_pairs(m, images, texts))) for m in rewards},
    )


def overall_difference(first: Arm, second: Arm, seed: int = 0, num_resamples: int = 2000) -> Estimate:
    """Difference of two arms' means over tags, on the same prompts and seeds.

    Prompts are resampled within their tag, pairs together, so that every tag keeps its weight.

    Raises:
        ConfigError: the arms were judged on other prompts.
    """
    if first.tags != second.tags:
        raise ConfigError(f"'{first.name}' and '{second.name}' were not judged on the same prompts")
    gain = np.asarray(first.correct, np.float64) - np.asarray(second.correct, np.float64)
    rng = numpy_generator(seed, "overall-difference")
    tags = np.asarray(first.tags)
    values, samples = [], []
    for tag in first.tag_names:
        own = gain[tags == tag]
        values.append(own.mean())
        samples.append(own[rng.integers(own.size, size=(num_resamples, own.size))].mean(1))
    low, high = np.quantile(np.mean(samples, axis=0), [0.025, 0.975])
    return Estimate(float(np.mean(values)), float(low), float(high))
