import subprocess
import sys

import pytest

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.rewards import catalog
from openmiro.rewards.catalog import CATALOG, REWARD_SETS, expand_names, load_reward, resolve_rewards, reward_set
from openmiro.rewards.classical import Colorfulness


@pytest.fixture
def user(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))
    return "user_rewards:"


@pytest.mark.parametrize("name", list(CATALOG.builtin))
def test_every_built_in_reward_loads_under_its_own_name(name):
    assert load_reward(name).spec.name == name


def test_every_set_names_built_in_rewards():
    for names in REWARD_SETS.values():
        assert set(names) <= set(CATALOG.builtin)
    assert len(REWARD_SETS["lab"]) == 7
    assert not set(REWARD_SETS) & set(CATALOG.builtin)


def test_sets_and_names_expand_in_order_each_once():
    names = expand_names(["contrast", "classical", "contrast", "shadow"])
    assert names == ["contrast", "colorfulness", "laplacian_sharpness", "exposure", "shadow"]


@pytest.mark.parametrize("attribute", ["Redness", "make_redness", "finished"])
def test_a_users_reward_is_a_class_a_factory_or_an_object(user, attribute):
    assert load_reward(user + attribute).spec.name == "redness"


def test_resolving_mixes_sets_and_dotted_paths(user):
    models = resolve_rewards(["classical", user + "Redness", "exposure", user + "make_redness"])
    assert reward_set(models).names == (*REWARD_SETS["classical"], "redness")
    assert isinstance(models[0], Colorfulness)
    assert resolve_rewards([]) == []


def test_an_unknown_name_lists_names_and_sets():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'contrast'\?.*classical.*lab.*package\.module:attribute"):
        resolve_rewards(["kontrast"])


def test_two_rewards_of_one_name_are_refused(user):
    with pytest.raises(ConfigError, match="two different rewards are named 'redness'"):
        resolve_rewards([user + "Redness", user + "OtherRedness"])


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("NotAReward", "lacks one of spec, preprocess"),
        ("NeedsAnArgument", "without arguments"),
        ("Absent", "has no reward 'Absent'"),
        ("__doc__", "without arguments|not a reward"),
    ],
)
def test_what_is_no_reward_is_refused(user, attribute, message):
    with pytest.raises(ConfigError, match=message):
        load_reward(user + attribute)


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="no_such_module"):
        load_reward("no_such_module:Reward")


def test_a_built_in_reward_must_keep_its_name(monkeypatch):
    registry = type(CATALOG)("reward", {"color": "openmiro.rewards.classical:Colorfulness"})
    monkeypatch.setattr(catalog, "CATALOG", registry)
    with pytest.raises(ConfigError, match="calls itself 'colorfulness'"):
        load_reward("color")


def test_naming_a_reward_imports_no_other():
    code = (
        "import sys; from openmiro.rewards.catalog import resolve_rewards; resolve_rewards(['classical']);"
        "sys.exit(any(m.startswith(('openmiro.lab', 'transformers', 'diffusers', 'torchvision')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
