import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core.config import Config, apply_overrides, fingerprint, merge, read_yaml
from openmiro.core.errors import ConfigError, UnknownNameError


class Inner(Config):
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


class Outer(Config):
    seed: int = 0
    optimizer: Inner = Inner()


def test_unknown_key_names_the_nearest_with_its_path():
    with pytest.raises(UnknownNameError, match=r"optimizer\.learning_rate") as caught:
        Outer.parse({"optimizer": {"learning_rat": 1.0}})
    assert "Did you mean 'optimizer.learning_rate'" in str(caught.value)


def test_wrong_type_names_path_and_value():
    with pytest.raises(ConfigError, match=r"'seed'.*'many'"):
        Outer.parse({"seed": "many"})


def test_non_finite_numbers_are_refused():
    with pytest.raises(ConfigError):
        Outer.parse({"optimizer": {"learning_rate": float("nan")}})


@given(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False))
def test_dump_and_parse_are_inverse(seed, rate):
    config = Outer(seed=seed, optimizer=Inner(learning_rate=rate))
    assert Outer.parse(config.dump()) == config
    assert Outer.parse(read_yaml(config.to_yaml(), "test")) == config
    assert Outer.parse(config.dump()).fingerprint() == config.fingerprint()


def test_overrides_read_yaml_values():
    values = apply_overrides({"a": {"b": 1}}, ["a.b=3e-4", "c=[x, y]", "d=true", "e=text=with=signs", "f.g=null"])
    assert values == {"a": {"b": 3e-4}, "c": ["x", "y"], "d": True, "e": "text=with=signs", "f": {"g": None}}


def test_overrides_do_not_change_their_input():
    before = {"a": {"b": 1}}
    apply_overrides(before, ["a.b=2"])
    assert before == {"a": {"b": 1}}


@pytest.mark.parametrize("override", ["novalue", "=1", "a.b.c=1", "a=[1"])
def test_bad_overrides_are_refused(override):
    with pytest.raises(ConfigError):
        apply_overrides({"a": {"b": 1}}, [override])


def test_yaml_tags_are_not_executed():
    with pytest.raises(ConfigError):
        read_yaml("!!python/object/apply:os.system ['true']", "test")


def test_merge_is_deep_for_mappings_and_replaces_the_rest():
    assert merge({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 1}


@given(st.dictionaries(st.text(max_size=5), st.integers(), min_size=2))
def test_fingerprint_ignores_order_and_sees_values(values):
    assert fingerprint(values) == fingerprint(dict(reversed(values.items())))
    key = next(iter(values))
    assert fingerprint(values) != fingerprint({**values, key: values[key] + 1})
