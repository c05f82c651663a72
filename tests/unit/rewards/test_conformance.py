import re

import pytest

from openmiro.core.errors import UnknownNameError
from openmiro.lab.scenes import LabSettings, render
from openmiro.lab.shards import sample_pair
from openmiro.rewards.catalog import CATALOG, REWARD_SETS, load_reward
from openmiro.rewards.conformance import check_reward, sample_pictures


@pytest.fixture
def user(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))
    return "user_rewards:"


@pytest.mark.parametrize("name", list(CATALOG.builtin))
def test_every_built_in_reward_conforms_on_pictures_of_odd_sizes(name):
    violations = check_reward(name)
    if name in REWARD_SETS["lab"]:
        # Noise holds no shapes, so that a text about shapes may rightly make no difference; lab pictures follow below.
        violations = [v for v in violations if "depends on its text" not in v]
    assert violations == []


@pytest.mark.parametrize("name", REWARD_SETS["lab"])
def test_lab_rewards_conform_on_lab_pictures(name):
    pairs = [sample_pair(i, 0, LabSettings()) for i in range(3)]
    assert check_reward(name, [render(p.scene) for p in pairs], [p.captions.synthetic for p in pairs]) == []


def test_a_users_reward_conforms_as_name_and_as_object(user):
    assert check_reward(user + "Redness") == []
    assert check_reward(load_reward(user + "finished")) == []


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("TextBlind", "no picture's score depends on its text"),
        ("ReadsText", "needs_text is False, but the score depends on the text"),
        ("Random", "must not draw random numbers"),
        ("BatchNormalized", "scores of a batch differ from scores of single pictures"),
        ("HalfPrecision", "float32 on the CPU, not torch.float16"),
        ("Matrix", r"shape \(6,\) for 6 pairs, not \(6, 1\)"),
        ("NotANumber", "6 of 6 scores are not finite"),
        ("OutOfRange", "above spec.high 1"),
        ("SizeDependent", "one shape and type whatever the picture's size"),
        ("FailsOnTiny", "preprocess failed on a picture of 1x1: ValueError: too small"),
        ("Vandal", "preprocess changed the picture"),
        ("OnlyRGB", "spec.name 'a/b' must be letters"),
        ("OnlyRGB", "spec.low 1 must be below spec.high 0"),
        ("OnlyRGB", "spec.version must not be empty"),
        ("Moody", "a second object of the same name gives other scores"),
    ],
)
def test_each_violation_is_named(user, attribute, message):
    violations = check_reward(user + attribute)
    assert any(re.search(message, v) for v in violations), violations


def test_an_unknown_name_is_an_error_and_not_a_violation():
    with pytest.raises(UnknownNameError):
        check_reward("beauty")


def test_sample_pictures_are_the_same_every_time_and_differ_from_each_other():
    first, second = sample_pictures(), sample_pictures()
    assert [i.tobytes() for i in first] == [i.tobytes() for i in second]
    assert len({i.tobytes() for i in first}) == len(first)
    assert (1, 1) in {i.size for i in first}
