"""The exact judge of composition: does a picture show what a prompt asks for? (GenEval, Ghosh et al. 2023.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from openmiro.lab.captions import Claim, Mention, Relation
from openmiro.lab.detector import DetectedShape, detect
from openmiro.lab.scenes import Tag

MIN_CONFIDENCE = 0.5
MIN_SHAPE_PROBABILITY = 0.4
"""Objects below either do not count: neither noise nor a blob between two shapes is an object."""


@dataclass(frozen=True)
class Spec:
    """What a picture must show to pass: the claim, read in the way of its tag.

    Counts are exact for `Tag.COUNTING` and minimal for every other tag, as in GenEval.
    """

    tag: Tag
    claim: Claim


def verify(image: Image.Image, spec: Spec) -> bool:
    """Whether the picture meets the specification."""
    return meets(find(image), spec)


def has_requested_color(image: Image.Image, spec: Spec) -> bool:
    """Whether the largest colored region of the picture has a color that the specification names."""
    return has_color(detect(np.asarray(image.convert("RGB"))), spec)


def has_color(regions: list[DetectedShape], spec: Spec) -> bool:
    """`has_requested_color` of regions already found, largest first."""
    return bool(regions) and regions[0].color in {m.color for m in spec.claim.mentions if m.color}


def find(image: Image.Image) -> list[DetectedShape]:
    """The objects in a picture that count."""
    return sure(detect(np.asarray(image.convert("RGB"))))


def sure(regions: list[DetectedShape]) -> list[DetectedShape]:
    """Those that look enough like an object to count."""
    return [
        d
        for d in regions
        if d.confidence >= MIN_CONFIDENCE and max(d.shape_probabilities, default=1.0) >= MIN_SHAPE_PROBABILITY
    ]


def meets(found: list[DetectedShape], spec: Spec) -> bool:
    """Whether the objects found meet the specification."""
    claim = spec.claim
    for mention in claim.mentions:
        num = sum(_matches(d, mention) for d in found)
        if num < mention.count or (spec.tag is Tag.COUNTING and num != mention.count):
            return False
    if claim.relation is None or len(claim.mentions) < 2:
        return True
    first, second = ([d for d in found if _matches(d, m)] for m in claim.mentions[:2])
    return any(stands(a, b, claim.relation) for a in first for b in second if a is not b)


def _matches(found: DetectedShape, mention: Mention) -> bool:
    return mention.shape in (None, found.shape) and mention.color in (None, found.color)


def stands(a: DetectedShape, b: DetectedShape, relation: Relation) -> bool:
    """Whether `a` lies in that direction of `b`: further apart that way than a tenth of the picture and than across."""
    dx, dy = a.x - b.x, a.y - b.y
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation]
    return along > 0.1 and along > abs(across)
