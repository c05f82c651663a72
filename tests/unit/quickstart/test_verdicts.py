import pytest

from openmiro.evaluate.steering import Arm, Strip
from openmiro.quickstart.verdicts import make_verdicts

TAGS = ("single_object",) * 50 + ("position",) * 50


def arm(name, aesthetic=5.0, sharpness=50.0, alignment=0.5, num_correct=25, num_color=25):
    return Arm(
        name=name,
        correct=tuple(i % 50 < num_correct for i in range(100)),
        tags=TAGS,
        color=tuple(i < num_color if i < 50 else None for i in range(100)),
        scores={
            "aesthetic": tuple(aesthetic + 0.01 * (i % 10) for i in range(100)),
            "sharpness": (sharpness,) * 100,
            "alignment": (alignment,) * 100,
        },
    )


def strip(reward, obtained):
    rows = tuple(tuple(o + 0.01 * k for k in range(4)) for o in obtained)
    return Strip(reward=reward, unit="u", asked=(0, 0.25, 0.5, 0.75, 1), wanted=(0,) * 5, obtained=rows, levels=rows)


def answers(baseline, miro, unguided, steered, strips):
    return [v.answer for v in make_verdicts(baseline, miro, unguided, steered, strips)]


GOOD_STRIPS = [
    strip("aesthetic", [1, 2, 3, 4, 5]),
    strip("sharpness", [1, 2, 3, 4, 5]),
    strip("shadow", [5, 4, 3, 2, 1]),
]


def test_a_better_model_gets_yes_everywhere():
    found = answers(
        arm("baseline"),
        arm("MIRO", aesthetic=6, sharpness=60, num_correct=35),
        arm("unguided", alignment=0.4, num_color=20),
        arm("steered", alignment=0.6, num_color=48),
        GOOD_STRIPS,
    )
    assert found == ["yes"] * 8


def test_equal_models_get_no():
    same = arm("same")
    flat = [strip("aesthetic", [3] * 5), strip("sharpness", [3, 1, 2, 3, 1])]
    assert answers(same, same, same, same, flat) == ["no", "no", "yes", "no", "no", "no", "no", "no"]


@pytest.mark.parametrize(("num_correct", "answer"), [(5, "no"), (24, "undecided"), (25, "yes"), (26, "yes")])
def test_composition_must_not_fall(num_correct, answer):
    found = make_verdicts(arm("baseline"), arm("MIRO", num_correct=num_correct), arm("u"), arm("s"), GOOD_STRIPS)
    assert found[2].answer == answer


def test_two_models_that_draw_nothing_right_decide_nothing():
    none = arm("none", num_correct=0)
    assert make_verdicts(none, none, none, none, GOOD_STRIPS)[2].answer == "undecided"


def test_overlapping_intervals_are_not_apart():
    found = make_verdicts(arm("b", aesthetic=5), arm("m", aesthetic=5.005), arm("u"), arm("s"), GOOD_STRIPS)
    assert found[0].answer == "no"
