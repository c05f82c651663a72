from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from openmiro.lab.captions import Claim, Mention, parse
from openmiro.lab.detector import DetectedShape
from openmiro.lab.scenes import Scene, Shape, Tag, render
from openmiro.lab.verify import MIN_CONFIDENCE, Spec, has_requested_color, meets, stands, sure, verify


def found(shape: str, color: str, x: float = 0.5, y: float = 0.5, confidence: float = 1.0) -> DetectedShape:
    return DetectedShape(shape, color, x, y, 0.3, 0.3, confidence, (), ())


RED_RING, BLUE_CROSS = found("ring", "red", 0.25, 0.5), found("cross", "blue", 0.75, 0.55)


@pytest.mark.parametrize(
    ("tag", "text", "objects", "passes"),
    [
        (Tag.SINGLE_OBJECT, "a ring", [RED_RING], True),
        (Tag.SINGLE_OBJECT, "a ring", [RED_RING, BLUE_CROSS], True),
        (Tag.SINGLE_OBJECT, "a square", [RED_RING, BLUE_CROSS], False),
        (Tag.SINGLE_OBJECT, "a ring", [], False),
        (Tag.COLORS, "a red ring", [RED_RING], True),
        (Tag.COLORS, "a blue ring", [RED_RING, BLUE_CROSS], False),
        (Tag.COUNTING, "two rings", [RED_RING, RED_RING], True),
        (Tag.COUNTING, "two rings", [RED_RING] * 3, False),
        (Tag.COUNTING, "a ring", [RED_RING] * 2, False),
        (Tag.TWO_OBJECT, "a ring and a cross", [RED_RING, BLUE_CROSS], True),
        (Tag.TWO_OBJECT, "a ring and a cross", [RED_RING], False),
        (Tag.COLOR_ATTRIBUTION, "a red ring and a blue cross", [RED_RING, BLUE_CROSS], True),
        (Tag.COLOR_ATTRIBUTION, "a blue ring and a red cross", [RED_RING, BLUE_CROSS], False),
        (Tag.POSITION, "a ring left of a cross", [RED_RING, BLUE_CROSS], True),
        (Tag.POSITION, "a cross right of a ring", [RED_RING, BLUE_CROSS], True),
        (Tag.POSITION, "a ring right of a cross", [RED_RING, BLUE_CROSS], False),
        (Tag.POSITION, "a ring above a cross", [RED_RING, BLUE_CROSS], False),
        (Tag.POSITION, "a ring left of a ring", [RED_RING], False),
    ],
)
def test_genevals_rules(tag, text, objects, passes):
    claim = parse(text)
    assert claim is not None
    assert meets(objects, Spec(tag, claim)) is passes


def test_directions():
    a, b = found("ring", "red", 0.2, 0.2), found("ring", "red", 0.3, 0.8)
    assert stands(a, b, "above")
    assert stands(b, a, "below")
    assert not stands(a, b, "left")  # apart more up and down than across
    assert not stands(a, found("ring", "red", 0.2, 0.29), "above")  # too near to say


def test_unsure_objects_do_not_count():
    objects = [found("ring", "red", confidence=MIN_CONFIDENCE), found("ring", "red", confidence=MIN_CONFIDENCE - 0.01)]
    assert sure(objects) == objects[:1]
    between = replace(objects[0], shape_probabilities=(0.39, 0.37, 0.14, 0.1))
    assert sure([between]) == []


def test_requested_color_is_that_of_the_largest_region():
    big, small = Shape("square", "green", 0.32, 0.5, 0.5), Shape("ring", "red", 0.8, 0.5, 0.3)
    image = render(Scene(Tag.TWO_OBJECT, (big, small), "row", "gray"))
    assert has_requested_color(image, Spec(Tag.COLORS, Claim((Mention(1, "green", "cross"),))))
    assert not has_requested_color(image, Spec(Tag.COLORS, Claim((Mention(1, "red", "ring"),))))
    empty = Image.fromarray(np.full((24, 24, 3), 150, dtype=np.uint8))
    assert not has_requested_color(empty, Spec(Tag.COLORS, Claim((Mention(1, "green", "cross"),))))


def test_other_picture_modes_are_converted():
    image = render(Scene(Tag.COLORS, (Shape("square", "green", 0.5, 0.5, 0.5),), "single", "gray"))
    assert verify(image.convert("RGBA"), Spec(Tag.COLORS, Claim((Mention(1, "green", "square"),))))
