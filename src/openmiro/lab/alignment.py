"""How likely a caption is true of a picture: the verifier made soft, as VQAScore is."""

from __future__ import annotations

import numpy as np

from openmiro.lab.captions import Claim, Mention, Relation
from openmiro.lab.scenes import COLORS, SHAPES, Floats

_COLOR_NAMES = tuple(COLORS)
_SHAPES_AT = 5
_COLORS_AT = 5 + len(SHAPES)
UNREADABLE = 0.5
"""Score of a caption that makes no claim about objects."""


def probability(objects: Floats, claim: Claim | None) -> float:
    """How well objects (rows of `measure.Measurement.objects`) bear out a claim, in [0, 1].

    Mostly the probability that all of it is true; the rest is the mean over its single statements, so that getting the
    color right counts even where the shape is wrong.
    """
    if claim is None:
        return UNREADABLE
    joint, parts = _joint(objects, claim), _parts(objects, claim)
    return float(0.6 * joint + 0.4 * sum(parts) / len(parts))


def _match(objects: Floats, mention: Mention) -> Floats:
    """Probability of each object to be what is mentioned, [MAX_OBJECTS]."""
    return objects[:, 0] * _shape(objects, mention) * _color(objects, mention)


def _shape(objects: Floats, mention: Mention) -> Floats:
    return objects[:, _SHAPES_AT + SHAPES.index(mention.shape)] if mention.shape else np.ones(len(objects))


def _color(objects: Floats, mention: Mention) -> Floats:
    return objects[:, _COLORS_AT + _COLOR_NAMES.index(mention.color)] if mention.color else np.ones(len(objects))


def _joint(objects: Floats, claim: Claim) -> float:
    matches = [_match(objects, m) for m in claim.mentions]
    joint = float(np.prod([_count_probability(p, m.count) for p, m in zip(matches, claim.mentions, strict=True)]))
    if len(matches) < 2:
        return joint
    together = matches[0][:, None] * matches[1][None, :]
    np.fill_diagonal(together, 0)
    if claim.relation is not None:
        together = together * _standing(objects, claim.relation)
    # The pair says all that two single objects do; further mentions and counts keep their own factor.
    plain = all(m.count == 1 for m in claim.mentions) and len(matches) == 2
    return float(together.max()) if plain else joint * float(together.max() > 0.25)


def _count_probability(match: Floats, count: int) -> float:
    ordered = np.sort(match)[::-1]
    too_many = ordered[count] if count < len(ordered) else 0.0
    return float(np.prod(ordered[:count]) * (1 - (0.8 if count > 1 else 0.4) * too_many))


def _parts(objects: Floats, claim: Claim) -> list[float]:
    present = objects[:, 0]
    parts = []
    for mention in claim.mentions:
        match = _match(objects, mention)
        if mention.shape:
            parts.append(float((present * _shape(objects, mention)).max()))
        if mention.color:
            parts.append(float((present * _color(objects, mention)).max()))
        parts.append(float(np.exp(-abs(float(match.sum()) - mention.count))))
    if claim.relation is not None:
        first, second = (_match(objects, m) for m in claim.mentions[:2])
        together = np.sqrt(first[:, None] * second[None, :])
        np.fill_diagonal(together, 0)
        parts.append(float((together * _standing(objects, claim.relation)).max()))
    return parts


def _standing(objects: Floats, relation: Relation) -> Floats:
    """Probability that object i stands in the relation to object j, [MAX_OBJECTS, MAX_OBJECTS]."""
    dx = objects[:, None, 1] - objects[None, :, 1]
    dy = objects[:, None, 2] - objects[None, :, 2]
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation]
    return _sigmoid((along - 0.1) / 0.05) * _sigmoid((along - np.abs(across)) / 0.08)


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
