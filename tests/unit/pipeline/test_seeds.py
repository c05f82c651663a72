import pytest
import torch
from tests.unit.pipeline.build import tiny_pipeline

from openmiro.pipeline.noise import draw_noise, resolve_seeds


def fresh(seed):
    return torch.Generator().manual_seed(seed)


def test_a_fresh_generator_is_its_seed_and_then_moves_on():
    generator = fresh(7)
    assert resolve_seeds(3, None, generator) == (7, 8, 9)
    second = resolve_seeds(3, None, generator)
    assert second != (7, 8, 9)
    again = fresh(7)
    resolve_seeds(3, None, again)
    assert resolve_seeds(3, None, again) == second


def test_a_list_of_generators_is_a_list_of_seeds():
    assert resolve_seeds(2, None, [fresh(3), fresh(11)]) == resolve_seeds(2, [3, 11], None) == (3, 11)


def test_without_a_seed_torchs_own_decides():
    torch.manual_seed(0)
    first = resolve_seeds(2, None, None)
    assert resolve_seeds(2, None, None) != first
    torch.manual_seed(0)
    assert resolve_seeds(2, None, None) == first


def test_noise_of_a_seed_does_not_depend_on_its_neighbors():
    together = draw_noise([4, 5, 6], (2, 3, 3))
    assert torch.equal(together[1], draw_noise([5], (2, 3, 3))[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("kind", ["seeds", "generator", "generators"])
def test_seed_generator_and_latents_give_the_same_picture(kind):
    pipe = tiny_pipeline()
    arguments = {
        "seeds": {"seeds": [21]},
        "generator": {"generator": fresh(21)},
        "generators": {"generator": [fresh(21)]},
    }[kind]
    out = pipe("a red square", output_type="latent", **arguments)
    noise = draw_noise([21], pipe.denoiser.latent_shape)
    given = pipe("a red square", output_type="latent", latents=noise)
    assert torch.equal(out.images, given.images)
    assert (out.seeds, given.seeds) == ((21,), ())
    assert given.metadata[0].seed is None
