import pytest

from openmiro.core.errors import ConfigError
from openmiro.lab.captions import flipped, parse
from openmiro.lab.prompts import held_out_prompts, prompt_set
from openmiro.lab.scenes import LabSettings, Tag


@pytest.mark.parametrize("tag", Tag)
def test_prompts_say_what_their_specification_checks(tag):
    for prompt in held_out_prompts(tag, 60, settings=LabSettings(max_objects=3)):
        assert parse(prompt.text) in (prompt.spec.claim, flipped(prompt.spec.claim))
        assert prompt.tag is tag


def test_more_prompts_begin_with_the_same_ones_and_seeds_differ():
    assert held_out_prompts("colors", 20)[:5] == held_out_prompts("colors", 5)
    assert held_out_prompts("colors", 20) != held_out_prompts("colors", 20, seed=1)


def test_the_set_has_every_tag_of_the_world():
    prompts = prompt_set(3)
    assert [p.tag for p in prompts[::3]] == list(Tag)
    counts = {p.spec.claim.mentions[0].count for p in held_out_prompts(Tag.COUNTING, 50)}
    assert counts == {1, 2}


def test_a_tag_the_world_cannot_show_is_refused():
    with pytest.raises(ConfigError, match="single_object, counting, colors"):
        held_out_prompts("position", 3, settings=LabSettings(max_objects=1))
    with pytest.raises(ConfigError, match="poetry"):
        held_out_prompts("poetry", 3)
