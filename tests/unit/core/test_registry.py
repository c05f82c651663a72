import pytest

from openmiro.core.errors import ConfigError, MissingExtraError, UnknownNameError
from openmiro.core.registry import EXTRA_OF_MODULE, Registry, require

REGISTRY = Registry("codec", {"sha": "hashlib:sha256", "gone": "hashlib:nothing"})


def test_resolves_names_and_dotted_paths_to_the_same_object():
    assert REGISTRY.resolve("sha") is REGISTRY.resolve("hashlib:sha256")


def test_unknown_name_lists_the_choices_and_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown codec 'shaa'. Did you mean 'sha'\? Choices: gone, sha"):
        REGISTRY.resolve("shaa")


@pytest.mark.parametrize("name", ["gone", "hashlib:missing", "no_such_module_here:x"])
def test_broken_targets_are_configuration_errors(name):
    with pytest.raises(ConfigError):
        REGISTRY.resolve(name)


def test_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(EXTRA_OF_MODULE, "a_package_nobody_has", "models")
    with pytest.raises(MissingExtraError, match=r"pip install 'openmiro\[models\]'"):
        require("a_package_nobody_has", "the text encoder")
    with pytest.raises(MissingExtraError, match="models"):
        REGISTRY.resolve("a_package_nobody_has:Thing")


def test_entry_points_add_names():
    # pytest itself declares a console script, which is an entry point like any other.
    registry = Registry("script", {}, group="console_scripts")
    assert "pytest" in registry.names()
    assert callable(registry.resolve("pytest"))
