"""What captions say about scenes: claims, their wordings, and the parser that reads any wording back into a claim."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Literal

import numpy as np

from openmiro.lab.scenes import COLORS, GROUNDS, SHAPES, LabSettings, Scene, Tag, sample_scene

Relation = Literal["left", "right", "above", "below"]
OPPOSITE: dict[Relation, Relation] = {"left": "right", "right": "left", "above": "below", "below": "above"}

_COUNT_WORDS = {1: "one", 2: "two", 3: "three"}
_PLURALS = {"square": "squares", "ring": "rings", "triangle": "triangles", "cross": "crosses", None: "shapes"}
_RELATION_WORDINGS: dict[Relation, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "on top of"),
    "below": ("below", "under"),
}


@dataclass(frozen=True)
class Mention:
    """So many objects of one kind; color or shape is None where the caption leaves it open."""

    count: int = 1
    color: str | None = None
    shape: str | None = None


@dataclass(frozen=True)
class Claim:
    """What a caption says. `relation` is where the first mention lies as seen from the second."""

    mentions: tuple[Mention, ...]
    relation: Relation | None = None


class CaptionStatus(StrEnum):
    """How an original caption relates to its picture."""

    CORRECT = "correct"
    PARTIAL = "partial"
    WRONG_ATTRIBUTE = "wrong_attribute"
    WRONG_SCENE = "wrong_scene"


@dataclass(frozen=True)
class Captions:
    """The captions of one picture: as found on the web, and written by a machine that saw the truth."""

    original: str
    synthetic: str
    short_synthetic: str
    status: CaptionStatus


def full_claim(scene: Scene) -> Claim:
    """Everything about the objects of a scene."""
    first = scene.objects[0]
    if all((o.kind, o.color) == (first.kind, first.color) for o in scene.objects):
        return Claim((Mention(len(scene.objects), first.color, first.kind),))
    relation: Relation = "left" if scene.arrangement == "row" else "above"
    return Claim(tuple(Mention(1, o.color, o.kind) for o in scene.objects), relation)


def claim_of_tag(scene: Scene) -> Claim:
    """What a caption of the scene's kind says, as GenEval's prompts do: no colors in positions, and so on."""
    claim = full_claim(scene)
    if scene.tag in (Tag.COLORS, Tag.COLOR_ATTRIBUTION):
        return replace(claim, relation=None)
    mentions = tuple(replace(m, color=None) for m in claim.mentions)
    return Claim(mentions, claim.relation if scene.tag is Tag.POSITION else None)


def flipped(claim: Claim) -> Claim:
    """The same claim told from the other object's side."""
    return Claim(claim.mentions[::-1], OPPOSITE[claim.relation] if claim.relation else None)


def write_captions(scene: Scene, rng: np.random.Generator, settings: LabSettings) -> Captions:
    """All captions of a scene; the synthetic ones are complete and correct."""
    claim = full_claim(scene)
    if claim.relation is not None and rng.random() < 0.5:
        claim = flipped(claim)
    told, status = _original_claim(scene, rng, settings)
    return Captions(
        original=original_wording(told, rng),
        synthetic=long_wording(claim, scene, rng),
        short_synthetic=short_wording(claim),
        status=status,
    )


def short_wording(claim: Claim) -> str:
    """The plainest complete wording."""
    parts = [_noun_phrase(m) for m in claim.mentions]
    if len(parts) == 1:
        return parts[0]
    return f"{parts[0]} {_RELATION_WORDINGS[claim.relation][0] if claim.relation else 'and'} {parts[1]}"


def long_wording(claim: Claim, scene: Scene, rng: np.random.Generator) -> str:
    """A whole sentence's worth: objects, layout and ground, at most 16 words."""
    parts = [_noun_phrase(m) for m in claim.mentions]
    text = parts[0]
    if len(parts) == 2:
        joint = _RELATION_WORDINGS[claim.relation][rng.integers(2)] if claim.relation else "and"
        text = f"{parts[0]} {joint} {parts[1]}"
    elif scene.arrangement == "row":
        text += " side by side"
    elif scene.arrangement == "column":
        text += " one above the other"
    return f"{text} on a {scene.ground} background"


_OPENINGS = ("", "", "", "a picture of ", "a photo of ", "picture of ")


def original_wording(claim: Claim, rng: np.random.Generator) -> str:
    """A wording as on the web: openings, missing articles, either object first."""
    if len(claim.mentions) == 2 and rng.random() < 0.5:
        claim = flipped(claim)
    opening = _OPENINGS[rng.integers(len(_OPENINGS))]
    articles = bool(opening) or rng.random() < 0.6
    parts = [_noun_phrase(m, articles) for m in claim.mentions]
    if len(parts) == 1:
        return opening + parts[0]
    joint = _RELATION_WORDINGS[claim.relation][rng.integers(2)] if claim.relation else ("and", "with")[rng.integers(2)]
    return f"{opening}{parts[0]} {joint} {parts[1]}"


def _noun_phrase(mention: Mention, articles: bool = True) -> str:
    noun = _PLURALS[mention.shape] if mention.count > 1 else (mention.shape or "shape")
    words = [mention.color, noun] if mention.color else [noun]
    if mention.count > 1:
        words.insert(0, _COUNT_WORDS[mention.count])
    elif articles:
        words.insert(0, "a")
    return " ".join(words)


def _original_claim(scene: Scene, rng: np.random.Generator, settings: LabSettings) -> tuple[Claim, CaptionStatus]:
    u = rng.random()
    if u < settings.wrong_captions / 2:
        other = claim_of_tag(sample_scene(rng, settings))
        return other, CaptionStatus.WRONG_SCENE
    claim = claim_of_tag(scene)
    if scene.tag in (Tag.COUNTING, Tag.POSITION) and rng.random() < 0.5:
        claim = full_claim(scene)
    if u < settings.wrong_captions:
        return with_wrong_attribute(claim, scene, rng, settings), CaptionStatus.WRONG_ATTRIBUTE
    if u < settings.wrong_captions + settings.partial_captions:
        return _part(claim, rng), CaptionStatus.PARTIAL
    return claim, CaptionStatus.CORRECT


def _part(claim: Claim, rng: np.random.Generator) -> Claim:
    """Leaves something out: an object, the shape, or the color."""
    kept = claim.mentions[rng.integers(len(claim.mentions))]
    if len(claim.mentions) == 1 and kept.color:
        kept = replace(kept, shape=None) if rng.random() < 0.5 else replace(kept, color=None)
    return Claim((kept,))


def with_wrong_attribute(claim: Claim, scene: Scene, rng: np.random.Generator, settings: LabSettings) -> Claim:
    """The claim with one shape, color, count or relation that is not the scene's."""
    which = int(rng.integers(len(claim.mentions)))
    mention = claim.mentions[which]
    present = {o.kind for o in scene.objects}
    choices = ["shape"] + ["color"] * (mention.color is not None) + ["relation"] * (claim.relation is not None)
    if scene.tag is Tag.COUNTING and settings.max_objects > 1:
        choices.append("count")
    choice = choices[rng.integers(len(choices))]
    if choice == "relation" and claim.relation:
        return replace(claim, relation=OPPOSITE[claim.relation])
    if choice == "color":
        colors = [c for c in settings.colors if c not in {o.color for o in scene.objects}] or ["red"]
        wrong = replace(mention, color=colors[rng.integers(len(colors))])
    elif choice == "count":
        counts = [n for n in range(1, settings.max_objects + 1) if n != mention.count]
        wrong = replace(mention, count=counts[rng.integers(len(counts))])
    else:
        shapes = [s for s in settings.shapes if s not in present] or [s for s in SHAPES if s not in present]
        wrong = replace(mention, shape=shapes[rng.integers(len(shapes))])
    return replace(claim, mentions=tuple(wrong if i == which else m for i, m in enumerate(claim.mentions)))


_SHAPE_OF_WORD = {s: s for s in SHAPES} | {_PLURALS[s]: s for s in SHAPES}
_OPEN_NOUNS = ("shape", "shapes", "thing", "things", "object", "objects", "something")
_COUNT_OF_WORD = {w: n for n, w in _COUNT_WORDS.items()} | {"a": 1, "an": 1, "single": 1}
_RELATION_PATTERN = re.compile(
    r"\b(?:(?:to|on) the )?(left|right) of\b|\b(above|over|on top of)\b|\b(below|under|beneath)\b"
)
_LAYOUT_PATTERN = re.compile(r"\bone above the other\b|\bside by side\b")
_GROUND_PATTERN = re.compile(
    rf"\b(?:on|in|with|against) an? (?:plain )?(?:{'|'.join(GROUNDS)}) (?:background|ground)\b"
)
_JOINT_PATTERN = re.compile(r"\band\b|\bwith\b|\bnext to\b|,")


def words_of(caption: str) -> list[str]:
    """The words of a caption, in lower case and without punctuation."""
    return re.findall(r"[a-z]+", caption.lower())


@lru_cache(maxsize=65536)
def parse(caption: str) -> Claim | None:
    """Reads a caption of the lab's language; None where it names no object at all.

    Words outside the vocabulary are passed over, so that unusual prompts still yield what they do say.
    """
    text = " ".join(re.findall(r"[a-z]+|,", caption.lower()))
    text = _LAYOUT_PATTERN.sub(" ", _GROUND_PATTERN.sub(" ", text))
    match = _RELATION_PATTERN.search(text)
    if match is not None:
        sides = (text[: match.start()], text[match.end() :])
        first, second = _parse_mention(sides[0]), _parse_mention(sides[1])
        if first and second:
            relation: Relation = match[1] if match[1] else "above" if match[2] else "below"  # type: ignore[assignment]
            return Claim((first, second), relation)
        text = " ".join(sides)
    mentions = [m for m in map(_parse_mention, _JOINT_PATTERN.split(text)) if m is not None]
    return Claim(tuple(mentions)) if mentions else None


def _relation_of(match: re.Match[str]) -> Relation:
    if match[1]:
        return "left" if match[1] == "left" else "right"
    return "above" if match[2] else "below"


def _parse_mention(text: str) -> Mention | None:
    words = text.split()
    shape = next((_SHAPE_OF_WORD[w] for w in words if w in _SHAPE_OF_WORD), None)
    color = next((w for w in words if w in COLORS), None)
    if shape is None and color is None and not any(w in _OPEN_NOUNS for w in words):
        return None
    counts = [_COUNT_OF_WORD[w] for w in words if w in _COUNT_OF_WORD]
    # "a picture of two rings": the last count belongs to the noun.
    return Mention(counts[-1] if counts else 1, color, shape)
