"""GenEval (Ghosh et al. 2023): the share of pictures that show what was asked, by kind of prompt, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL.Image import Image

from openmiro.core.errors import DataError
from openmiro.evaluate.intervals import Estimate, mean_of_shares, wilson
from openmiro.lab.detector import detect
from openmiro.lab.prompts import Prompt
from openmiro.lab.scenes import Tag
from openmiro.lab.verify import has_color, meets, sure


class Verdict(NamedTuple):
    """On one picture: whether it meets its prompt, and whether it has the color asked for.

    The color is None where the prompt does not name exactly one object with a color.
    """

    correct: bool
    color: bool | None


class Judge(Protocol):
    """Decides whether a picture shows what its prompt asks for."""

    def __call__(self, image: Image, prompt: Prompt) -> Verdict: ...


class Count(NamedTuple):
    """Successes among trials."""

    successes: int
    trials: int

    @property
    def share(self) -> Estimate:
        """With Wilson's 95 % interval."""
        return wilson(self.successes, self.trials)


@dataclass(frozen=True)
class GenEvalResult:
    """Counts by tag, in the order of the first prompt of each.

    Attributes:
        tags: successes and trials of each tag.
        requested_color: among pictures of prompts that name one object with a color, those whose largest colored
            region has that color.
        verdicts: one per picture, in the order given.
    """

    tags: dict[Tag, Count]
    requested_color: Count
    verdicts: tuple[Verdict, ...]

    @property
    def by_tag(self) -> dict[Tag, Estimate]:
        """Share of successes of each tag with Wilson's 95 % interval."""
        return {tag: count.share for tag, count in self.tags.items()}

    @property
    def overall(self) -> Estimate:
        """Mean over tags, as GenEval reports it, with its 95 % interval."""
        return mean_of_shares(list(self.by_tag.values()))


def lab_judge(image: Image, prompt: Prompt) -> Verdict:
    """The lab's exact verifier."""
    regions = detect(np.asarray(image.convert("RGB")))
    mentions = prompt.spec.claim.mentions
    names_color = len(mentions) == 1 and mentions[0].color is not None
    return Verdict(meets(sure(regions), prompt.spec), has_color(regions, prompt.spec) if names_color else None)


def evaluate_geneval(images: Sequence[Image], prompts: Sequence[Prompt], judge: Judge = lab_judge) -> GenEvalResult:
    """Judges picture i by prompt i; repeat a prompt for each of its pictures.

    Raises:
        DataError: there are no pictures, or not as many as prompts.
    """
    if not images or len(images) != len(prompts):
        raise DataError(f"GenEval needs one prompt per picture: {len(images)} pictures, {len(prompts)} prompts")
    verdicts = tuple(judge(image, prompt) for image, prompt in zip(images, prompts, strict=True))
    correct: dict[Tag, list[bool]] = {prompt.tag: [] for prompt in prompts}
    for verdict, prompt in zip(verdicts, prompts, strict=True):
        correct[prompt.tag].append(verdict.correct)
    colors = [v.color for v in verdicts if v.color is not None]
    return GenEvalResult(
        tags={tag: Count(sum(c), len(c)) for tag, c in correct.items()},
        requested_color=Count(sum(colors), len(colors)),
        verdicts=verdicts,
    )
