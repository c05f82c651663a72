import pytest

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.core.presets import SamplingPreset, SamplingSettings


def test_a_preset_is_found_by_name_and_none_is_the_default():
    settings = SamplingSettings(presets={"vivid": SamplingPreset(guidance_scale=4.0)})
    assert settings.names == ("default", "vivid")
    assert settings.preset(None) == settings.preset("default") == SamplingPreset()
    assert settings.preset("vivid").guidance_scale == 4.0
    with pytest.raises(UnknownNameError, match="Did you mean 'vivid'"):
        settings.preset("vivd")


def test_null_takes_a_reward_out():
    preset = SamplingPreset.parse({"targets": {"a": None, "b": 0.5}})
    assert preset.targets == {"b": 0.5}


@pytest.mark.parametrize(
    "values",
    [{"targets": {"a": 1.5}}, {"avoid": {"a": -0.1}}, {"num_steps": 0}, {"guidance": "none"}, {"targets": [1.0]}],
)
def test_values_out_of_range_are_refused(values):
    with pytest.raises(ConfigError):
        SamplingPreset.parse(values)


def test_dump_and_parse_are_inverse():
    settings = SamplingSettings(presets={"a": SamplingPreset(targets={"x": 1.0}, guidance_interval=(0.1, 0.8))})
    assert SamplingSettings.parse(settings.dump()) == settings
