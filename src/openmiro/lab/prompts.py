"""Prompts of the lab's own GenEval: held out from training by their random stream, each with its specification."""

from __future__ import annotations

from dataclasses import dataclass

from openmiro.core.errors import ConfigError
from openmiro.core.seeds import numpy_generator
from openmiro.lab.captions import claim_of_tag, flipped, original_wording, short_wording
from openmiro.lab.scenes import LabSettings, Tag, sample_scene
from openmiro.lab.verify import Spec


@dataclass(frozen=True)
class Prompt:
    """A text to draw and what the picture must show to pass."""

    text: str
    spec: Spec

    @property
    def tag(self) -> Tag:
        return self.spec.tag


def held_out_prompts(tag: Tag | str, num: int, seed: int = 0, settings: LabSettings | None = None) -> list[Prompt]:
    """`num` prompts of one tag; prompt i depends on (tag, i, seed, settings) only.

    Even ones are worded as the synthetic captions are, odd ones as captions on the web are.

    Raises:
        ConfigError: the tag does not occur in this world.
    """
    settings = settings or LabSettings()
    if tag not in settings.tags:
        raise ConfigError(f"no prompts of kind '{tag}' in this world. Choices: {', '.join(settings.tags)}")
    return [_prompt(Tag(tag), i, seed, settings) for i in range(num)]


def prompt_set(num_per_tag: int, seed: int = 0, settings: LabSettings | None = None) -> list[Prompt]:
    """`num_per_tag` held-out prompts of every tag that the world can show, tag by tag."""
    settings = settings or LabSettings()
    return [prompt for tag in settings.tags for prompt in held_out_prompts(tag, num_per_tag, seed, settings)]


def _prompt(tag: Tag, index: int, seed: int, settings: LabSettings) -> Prompt:
    rng = numpy_generator(seed, f"lab/held-out/{tag.value}", index)
    claim = claim_of_tag(sample_scene(rng, settings, tag, clean=True))
    if len(claim.mentions) == 2 and rng.random() < 0.5:
        claim = flipped(claim)
    text = short_wording(claim) if index % 2 == 0 else original_wording(claim, rng)
    return Prompt(text, Spec(tag, claim))
