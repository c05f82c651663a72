"""What must hold of every picture, whatever it is drawn with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.pipeline.build import REWARDS, tiny_pipeline

from openmiro.core.types import Condition
from openmiro.flow.guidance import Branch, guided_velocity
from openmiro.flow.solvers import solve, time_grid
from openmiro.pipeline.noise import draw_noise
from openmiro.pipeline.targets import Targets

PIPE = tiny_pipeline()
LEVEL = st.floats(0, 1, width=32)
SOLVERS = ("euler", "heun", "dpmpp_2m")
# Matrix products of another number of rows may be summed in another order, so the pictures of a batch agree with single
# ones to rounding, not to the bit.
ROUNDING = {"atol": 1e-5, "rtol": 1e-5}


def draw(prompt="a red square", **arguments):
    return PIPE(prompt, output_type="latent", **arguments).images


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guidance", ["reward", "text", "joint"])
def test_guidance_scale_1_is_conditional_sampling_bit_for_bit(guidance, solver):
    out = PIPE(
        ["a red square", "two rings"],
        reward_targets={"aesthetic": 0.3, "alignment": 1.0},
        guidance=guidance,
        guidance_scale=1.0,
        solver=solver,
        seeds=[3, 4],
        output_type="latent",
    )
    text = PIPE.text_encoder.encode(["a red square", "two rings"])
    condition = Condition(text.text, text.mask, *out.reward_targets)
    with torch.no_grad():
        velocity = guided_velocity(PIPE.denoiser, [Branch(condition, 1.0)])
        plain = solve(solver, velocity, draw_noise([3, 4], PIPE.denoiser.latent_shape), time_grid(3))
    assert torch.equal(out.images, plain)


@given(
    seeds=st.lists(st.integers(0, 2**40), min_size=2, max_size=5, unique=True),
    levels=st.lists(st.none() | LEVEL, min_size=5, max_size=5),
    guidance=st.sampled_from(["reward", "text", "joint"]),
    solver=st.sampled_from(SOLVERS),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_picture_k_of_a_batch_is_the_single_picture_with_its_seed(seeds, levels, guidance, solver, data):
    prompts = ["a red square", "two rings", "", "a blue circle", "left"][: len(seeds)]
    common = {"guidance": guidance, "solver": solver, "guidance_scale": 2.0, "output_type": "pt"}
    batch_size = data.draw(st.integers(1, len(seeds)))
    targets = {"aesthetic": levels[: len(seeds)], "sharpness": 0.5}
    together = PIPE(prompts, seeds=seeds, reward_targets=targets, batch_size=batch_size, **common)
    k = data.draw(st.integers(0, len(seeds) - 1))
    alone = PIPE(prompts[k], seeds=[seeds[k]], reward_targets={"aesthetic": levels[k], "sharpness": 0.5}, **common)
    torch.testing.assert_close(together[k], alone[0], **ROUNDING)


@given(level=st.floats(allow_nan=True, allow_infinity=True, width=32), guidance=st.sampled_from(["reward", "joint"]))
@settings(max_examples=25, deadline=None)
def test_the_level_of_an_unknown_reward_has_no_influence(level, guidance):
    """Even a NaN where nothing is known must not be felt; the pipeline's own arithmetic runs on these levels."""

    def picture(value):
        text = PIPE.text_encoder.encode(["a red square"])
        known = torch.tensor([[True, False, False]])
        target = Condition(text.text, text.mask, torch.tensor([[1.0, value, value]]), known)
        avoid = target.with_levels(torch.tensor([[0.0, value, value]]), known)
        branches = [Branch(target, 3.0), Branch(avoid if guidance == "reward" else avoid.null_text(), -2.0)]
        with torch.no_grad():
            velocity = guided_velocity(PIPE.denoiser, branches)
            return solve("euler", velocity, draw_noise([1], PIPE.denoiser.latent_shape), time_grid(3))

    expected = draw(seeds=[1], reward_targets={"aesthetic": 1.0}, guidance=guidance, guidance_scale=3.0)
    assert torch.equal(picture(level), expected)


def test_none_and_leaving_a_reward_out_are_the_same_and_zero_is_not():
    left_out = draw(seeds=[1], reward_targets={"aesthetic": 1.0}, guidance_scale=2.0)
    none = draw(seeds=[1], reward_targets={"aesthetic": 1.0, "sharpness": None}, guidance_scale=2.0)
    zero = draw(seeds=[1], reward_targets={"aesthetic": 1.0, "sharpness": 0.0}, guidance_scale=2.0)
    assert torch.equal(left_out, none)
    assert not torch.allclose(left_out, zero, **ROUNDING)


@pytest.mark.parametrize("name", REWARDS.names)
def test_every_known_level_does_have_influence(name):
    low, high = (draw(seeds=[1], reward_targets={name: level}, guidance_scale=1.0) for level in (0.0, 1.0))
    assert not torch.allclose(low, high, **ROUNDING)


def test_the_same_call_gives_the_same_bits():
    arguments = {"seeds": [1, 2], "num_images_per_prompt": 2, "guidance_scale": 4.0}
    assert torch.equal(draw(**arguments), draw(**arguments))


def test_lowest_levels_are_zero_exactly_where_something_was_asked():
    asked = Targets(torch.tensor([[0.5, 0.0]]), torch.tensor([[True, False]]))
    assert asked.lowest().level.tolist() == [[0.0, 0.0]]
    assert asked.lowest().known.tolist() == [[True, False]]
