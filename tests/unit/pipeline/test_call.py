import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.pipeline.build import CAPTIONS, REWARDS, plain_pipeline, tiny_pipeline

from openmiro.core.errors import CheckpointError, ConfigError, TargetError, UnknownNameError
from openmiro.core.presets import SamplingPreset, SamplingSettings
from openmiro.core.types import Condition
from openmiro.flow.guidance import Branch, Interval, guided_velocity, joint_guidance, reward_guidance, text_guidance
from openmiro.flow.solvers import solve, time_grid
from openmiro.pipeline import MiroPipeline
from openmiro.pipeline.noise import draw_noise


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def latents_of(pipe, prompt="a red square", **arguments):
    defaults = {"seeds": [5], "num_inference_steps": 3, "solver": "euler"}
    return pipe(prompt, output_type="latent", **{**defaults, **arguments}).images


def condition(pipe, target, prompt="a red square"):
    """One row with levels by position; None is unknown."""
    text = pipe.text_encoder.encode([prompt])
    known = torch.tensor([[value is not None for value in target]])
    return Condition(text.text, text.mask, torch.tensor([[value or 0.0 for value in target]]), known)


def reference(pipe, branches, interval=None, steps=3, solver="euler", seed=5):
    """The same picture put together by hand from the flow package."""
    with torch.no_grad():
        velocity = guided_velocity(pipe.denoiser, branches, interval or Interval())
        return solve(solver, velocity, draw_noise([seed], pipe.denoiser.latent_shape), time_grid(steps))


def test_reward_guidance_leads_from_the_lowest_level_of_what_was_asked(pipe):
    expected = reference(
        pipe, reward_guidance(condition(pipe, [0.9, None, None]), condition(pipe, [0.0, None, None]), 3.0)
    )
    assert torch.equal(latents_of(pipe, reward_targets={"aesthetic": 0.9}, guidance_scale=3.0), expected)


def test_paper_convention_counts_from_zero(pipe):
    targets = {"reward_targets": {"aesthetic": 0.9}}
    paper = latents_of(pipe, guidance_scale=2.0, guidance_convention="paper", **targets)
    assert torch.equal(paper, latents_of(pipe, guidance_scale=3.0, **targets))


def test_given_avoid_levels_replace_the_lowest(pipe):
    target, avoid = condition(pipe, [None, 1.0, None]), condition(pipe, [0.5, None, 0.25])
    out = latents_of(
        pipe,
        reward_targets={"sharpness": 1.0},
        negative_reward_targets={"aesthetic": 0.5, "alignment": 0.25},
        guidance_scale=2.0,
    )
    assert torch.equal(out, reference(pipe, reward_guidance(target, avoid, 2.0)))


def test_text_guidance_keeps_the_levels_on_both_sides(pipe):
    out = latents_of(pipe, reward_targets={"aesthetic": 0.5}, guidance="text", guidance_scale=4.0)
    assert torch.equal(out, reference(pipe, text_guidance(condition(pipe, [0.5, None, None]), 4.0)))


def test_joint_guidance_drops_the_text_and_lowers_the_levels(pipe):
    target, avoid = condition(pipe, [1.0, None, None]), condition(pipe, [0.0, None, None])
    out = latents_of(pipe, reward_targets={"aesthetic": 1.0}, guidance="joint", guidance_scale=2.0)
    assert torch.equal(out, reference(pipe, joint_guidance(target, avoid, 2.0)))


def test_negative_prompt_stands_where_the_null_text_would(pipe):
    positive, negative = condition(pipe, [None] * 3), condition(pipe, [None] * 3, "two rings")
    out = latents_of(pipe, negative_prompt="two rings", reward_targets={}, guidance_scale=2.0)
    assert torch.equal(out, reference(pipe, reward_guidance(positive, negative, 2.0)))
    both = latents_of(pipe, negative_prompt="two rings", reward_targets={"aesthetic": 1.0}, guidance_scale=2.0)
    target, avoid = condition(pipe, [1.0, None, None]), condition(pipe, [0.0, None, None], "two rings")
    assert torch.equal(both, reference(pipe, reward_guidance(target, avoid, 2.0)))


def test_interval_solver_and_steps_are_passed_on(pipe):
    target, avoid = condition(pipe, [1.0, None, None]), condition(pipe, [0.0, None, None])
    branches = reward_guidance(target, avoid, 3.0)
    arguments = {"reward_targets": {"aesthetic": 1.0}, "guidance_scale": 3.0, "num_inference_steps": 4}
    for solver in ("heun", "dpmpp_2m"):
        out = latents_of(pipe, guidance_interval=(0.3, 0.8), solver=solver, **arguments)
        expected = reference(pipe, branches, Interval(0.3, 0.8), 4, solver)
        assert torch.equal(out, expected)
        assert not torch.equal(out, latents_of(pipe, solver=solver, **arguments))


def test_what_is_left_out_comes_from_the_checkpoints_default_preset(pipe):
    target, avoid = condition(pipe, [0.75, None, None]), condition(pipe, [None, 0.25, None])
    out = pipe("a red square", seeds=[5], output_type="latent", guidance_scale=2.0)
    assert torch.equal(out.images, reference(pipe, reward_guidance(target, avoid, 2.0)))
    assert out.metadata[0].targets == {"aesthetic": 0.75}
    assert (out.metadata[0].num_steps, out.metadata[0].solver) == (3, "euler")


def test_a_named_preset_brings_all_its_settings_and_a_call_overrides_them(pipe):
    branches = joint_guidance(condition(pipe, [None, None, 1.0]), condition(pipe, [None] * 3), 2.5)
    expected = reference(pipe, branches, steps=2, solver="heun")
    out = pipe("a red square", preset="strong", seeds=[5], output_type="latent")
    assert torch.equal(out.images, expected)
    assert (out.metadata[0].guidance, out.metadata[0].guidance_scale) == ("joint", 2.5)
    changed = pipe("a red square", preset="strong", seeds=[5], guidance_scale=1.5, reward_targets={"sharpness": 0.5})
    assert changed.metadata[0].targets == {"sharpness": 0.5}
    assert (changed.metadata[0].guidance, changed.metadata[0].guidance_scale) == ("joint", 1.5)
    with pytest.raises(UnknownNameError, match="Did you mean 'strong'"):
        pipe("a", preset="strnog")


def test_auto_guidance_without_any_target_is_text_guidance(pipe):
    out = pipe("a red square", reward_targets={}, seeds=[5])
    assert out.metadata[0].guidance == "text"
    assert not out.reward_targets.known.any()


def test_raw_units_go_through_the_checkpoints_level_tables(pipe):
    raw = pipe("a red square", reward_targets={"aesthetic": 500.0}, reward_units="raw", seeds=[5], output_type="latent")
    level = pipe.levels.to_level("aesthetic", 500.0)
    assert level == pytest.approx(0.5, abs=1 / 63)
    assert torch.equal(raw.images, latents_of(pipe, reward_targets={"aesthetic": level}, guidance_scale=1.0))
    assert raw.reward_targets.level[0, 0] == pytest.approx(level)


def test_targets_may_differ_from_picture_to_picture(pipe):
    out = pipe(
        ["a red square", "two rings"],
        reward_targets={"aesthetic": [0.1, None], "sharpness": torch.tensor([0.2, 0.3]), "alignment": 0.4},
        seeds=[1, 2],
    )
    assert out.reward_targets.known.tolist() == [[True, True, True], [False, True, True]]
    torch.testing.assert_close(out.reward_targets.level, torch.tensor([[0.1, 0.2, 0.4], [0.0, 0.3, 0.4]]))
    assert out.metadata[1].targets == {"sharpness": 0.3, "alignment": 0.4}


def test_lists_may_count_prompts_or_pictures(pipe):
    prompts, four = ["a red square", "two rings"], {"num_images_per_prompt": 2, "seeds": [1, 2, 3, 4]}
    per_prompt = pipe(prompts, reward_targets={"aesthetic": [0.1, 0.9]}, **four)
    assert [m.targets["aesthetic"] for m in per_prompt.metadata] == [0.1, 0.1, 0.9, 0.9]
    assert [m.prompt for m in per_prompt.metadata] == ["a red square"] * 2 + ["two rings"] * 2
    per_picture = pipe(prompts, reward_targets={"aesthetic": [0.1, 0.2, 0.3, 0.4]}, **four)
    assert [m.targets["aesthetic"] for m in per_picture.metadata] == [0.1, 0.2, 0.3, 0.4]


def test_pictures_drawn_in_parts_are_those_drawn_at_once(pipe):
    arguments = {"seeds": [1, 2, 3], "reward_targets": {"aesthetic": [0.0, 0.5, 1.0]}, "guidance_scale": 2.0}
    prompts = ["a red square", "two rings", "a blue circle"]
    whole, parts = (pipe(prompts, output_type="pt", batch_size=n, **arguments).images for n in (3, 2))
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_output_types_hold_the_same_pictures(pipe):
    arguments = {"seeds": [1, 2], "num_images_per_prompt": 2}
    pt, array, pil = (pipe("two rings", output_type=kind, **arguments) for kind in ("pt", "np", "pil"))
    assert pt.images.shape == (2, 3, 16, 16)
    assert array.images.shape == (2, 16, 16, 3)
    assert array.images.dtype == np.float32
    assert 0 <= pt.images.min() < pt.images.max() <= 1
    np.testing.assert_array_equal(pt.images.permute(0, 2, 3, 1).numpy(), array.images)
    assert all(isinstance(image, Image.Image) for image in pil)
    np.testing.assert_array_equal(np.asarray(pil[1]), (array[1] * 255).round().astype(np.uint8))
    assert [image.tobytes() for image in pt.to_pil()] == [image.tobytes() for image in pil.images]
    assert len(pil) == 2


def test_callback_sees_every_step_and_can_stop(pipe):
    seen = []

    def watch(pipeline, step, t, tensors):
        assert pipeline is pipe
        seen.append((step, t, tensors["latents"]))

    out = pipe("two rings", seeds=[1], output_type="latent", callback_on_step_end=watch)
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [t for _, t, _ in seen] == pytest.approx([2 / 3, 1 / 3, 0])
    assert torch.equal(seen[-1][2], out.images)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe("two rings", seeds=[1], callback_on_step_end=stop)


def test_an_empty_prompt_is_the_null_text(pipe):
    null = condition(pipe, [None] * 3).null_text()
    assert torch.equal(latents_of(pipe, "", reward_targets={}), reference(pipe, [Branch(null, 1.0)]))


def test_bfloat16_stays_near_float32_and_says_so():
    pipe = tiny_pipeline()
    full = latents_of(pipe)
    half = pipe.to(dtype=torch.bfloat16)("a red square", seeds=[5], output_type="latent")
    assert half.metadata[0].dtype == "bfloat16"
    assert half.images.dtype == torch.float32
    assert 0 < (half.images - full).abs().max() < 0.2
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        pipe.to("cpu", torch.float16)


def test_a_model_without_rewards_guides_by_text_and_refuses_targets():
    pipe = plain_pipeline()
    assert pipe("a red square", seeds=[0], guidance_scale=2.0).metadata[0].guidance == "text"
    with pytest.raises(UnknownNameError, match="Choices: none"):
        pipe("a red square", reward_targets={"aesthetic": 1.0})
    with pytest.raises(ConfigError, match="trained with rewards"):
        pipe("a red square", guidance="reward")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"reward_targets": {"aesthetic": 1.2}}, TargetError, r"\[0, 1\].*reward_units='raw'"),
        ({"reward_targets": {"aesthetic": -0.1}}, TargetError, r"\[0, 1\]"),
        ({"negative_reward_targets": {"aesthetic": 7}}, TargetError, r"\[0, 1\]"),
        ({"reward_targets": {"aesthetic": float("nan")}}, TargetError, "None for a reward"),
        ({"reward_targets": {"aesthetic": float("inf")}, "reward_units": "raw"}, TargetError, "inf"),
        ({"reward_targets": {"aesthetic": [0.5, 0.5]}}, TargetError, "2 numbers, but 1"),
        ({"reward_targets": {"aesthetic": torch.zeros(1, 1)}}, TargetError, "2-d"),
        ({"reward_targets": {"aesthetic": "high"}}, TargetError, "'high'"),
        ({"reward_targets": {"aesthetic": True}}, TargetError, "True"),
        ({"reward_targets": {"aesthetic": [[0.5]]}}, TargetError, "number or None"),
        ({"reward_targets": {"asthetic": 1}}, UnknownNameError, "'aesthetic'.*aesthetic, alignment, sharpness"),
        ({"reward_units": "percent", "reward_targets": {}}, ConfigError, "percent"),
        ({"guidance": "rewards"}, UnknownNameError, "Did you mean 'reward'"),
        ({"guidance": "reward", "reward_targets": {}}, ConfigError, "needs a target"),
        ({"guidance": "reward", "negative_prompt": "a"}, ConfigError, "'text' or 'joint'"),
        ({"guidance_scale": float("nan")}, ConfigError, "finite"),
        ({"guidance_convention": "miro"}, ConfigError, "paper"),
        ({"guidance_interval": (0.8, 0.2)}, ConfigError, "low <= high"),
        ({"num_inference_steps": 0}, ConfigError, "at least 1"),
        ({"solver": "eular"}, UnknownNameError, "Did you mean 'euler'"),
        ({"num_images_per_prompt": 0}, ConfigError, "at least 1"),
        ({"seeds": [1, 2]}, ConfigError, "2 seeds were given for 1 pictures"),
        ({"seeds": [-1]}, ConfigError, "whole number"),
        ({"seeds": [1.5]}, ConfigError, "whole number"),
        ({"seeds": [1], "generator": torch.Generator()}, ConfigError, "not both"),
        ({"generator": [torch.Generator()] * 3}, ConfigError, "3 generators"),
        ({"latents": torch.zeros(1, 6, 4, 5)}, ConfigError, r"\(1, 6, 4, 4\)"),
        ({"latents": torch.full((1, 6, 4, 4), torch.nan)}, ConfigError, "finite"),
        ({"latents": torch.zeros(1, 6, 4, 4), "seeds": [1]}, ConfigError, "either"),
        ({"output_type": "jpg"}, ConfigError, "pil, np, pt, latent"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"negative_prompt": ["a", "b"]}, ConfigError, "2 negative prompts"),
    ],
)
def test_bad_arguments_say_what_to_write_instead(pipe, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe("a red square", **arguments)


def test_prompts_must_be_texts(pipe):
    with pytest.raises(ConfigError, match="empty list"):
        pipe([])
    with pytest.raises(ConfigError, match="given: 3"):
        pipe(["a", 3])


def test_raw_units_need_level_tables():
    pipe = tiny_pipeline(with_levels=False)
    with pytest.raises(TargetError, match="no level tables"):
        pipe("a red square", reward_targets={"aesthetic": 500.0}, reward_units="raw")
    # The presets' numbers are levels in any case.
    assert pipe("a red square", reward_units="raw", seeds=[1]).metadata[0].targets == {"aesthetic": 0.75}


def test_parts_that_do_not_fit_are_refused():
    pipe = tiny_pipeline()
    parts = (pipe.denoiser, pipe.codec, pipe.text_encoder)
    with pytest.raises(CheckpointError, match="at 32 pixels"):
        MiroPipeline(*parts, REWARDS, resolution=32)
    with pytest.raises(CheckpointError, match="reads 3 rewards, but 2"):
        MiroPipeline(*parts, REWARDS.model_copy(update={"specs": REWARDS.specs[:2]}), resolution=16)
    with pytest.raises(CheckpointError, match="level tables are those of sharpness, aesthetic"):
        names = ("sharpness", "aesthetic", "alignment")
        MiroPipeline(*parts, REWARDS, pipe.levels.subset(names), resolution=16)
    with pytest.raises(UnknownNameError, match="reward 'beauty'"):
        settings = SamplingSettings(default=SamplingPreset(targets={"beauty": 1.0}))
        MiroPipeline(*parts, REWARDS, resolution=16, sampling=settings)


def test_prompts_of_the_vocabulary_differ(pipe):
    pictures = {latents_of(pipe, text).numpy().tobytes() for text in CAPTIONS}
    assert len(pictures) == len(CAPTIONS)
