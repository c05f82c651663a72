from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.core.types import Condition, Denoiser
from openmiro.models.dit import DiT, DiTConfig, patches, picture
from openmiro.models.factory import build_denoiser

SMALL = DiTConfig(
    latent_shape=(4, 6, 6), num_rewards=3, vocabulary_size=20, max_text_tokens=8, width=32, depth=2, heads=2
)


def build(config: DiTConfig = SMALL, seed: int = 0) -> DiT:
    """A model whose zero-initialized parts are drawn too, so that every input can reach the output."""
    torch.manual_seed(seed)
    model = DiT(config)
    with torch.no_grad():
        for layer in (model.modulation, model.patch_out):
            layer.weight.normal_(std=0.1)
            layer.bias.add_(0.3 * torch.randn_like(layer.bias))
    return model.eval()


def make_condition(batch: int, config: DiTConfig = SMALL, num_tokens: int = 6, seed: int = 0) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    if config.text_dim is None:
        text = torch.randint(0, config.vocabulary_size, (batch, num_tokens), generator=generator)
    else:
        text = torch.randn(batch, num_tokens, config.text_dim, generator=generator)
    lengths = torch.randint(1, num_tokens + 1, (batch, 1), generator=generator)
    level = torch.rand(batch, config.num_rewards, generator=generator)
    known = torch.rand(batch, config.num_rewards, generator=generator) < 0.7
    return Condition(text, torch.arange(num_tokens) < lengths, level, known)


def make_input(batch: int, config: DiTConfig = SMALL, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *config.latent_shape, generator=generator)
    return x, torch.rand(batch, generator=generator)


def velocity(model: DiT, condition: Condition, seed: int = 1) -> torch.Tensor:
    with torch.no_grad():
        return model(*make_input(len(condition), model.config, seed), model.prepare(condition)).velocity


def test_it_is_a_denoiser():
    assert isinstance(DiT(SMALL), Denoiser)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"num_rewards": 0},
        {"vocabulary_size": None, "text_dim": 12},
        {"patch": 2, "local": False},
        {"patch": 3, "num_registers": 1, "mixer_depth": 0},
        {"latent_shape": (3, 4, 8), "mixer_depth": 2},
    ],
)
def test_shapes(change):
    config = DiTConfig.parse(SMALL.dump() | change)
    out = velocity(build(config), make_condition(3, config))
    assert out.shape == (3, *config.latent_shape)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


def test_a_new_model_predicts_zero():
    model = DiT(SMALL)
    assert velocity(model, make_condition(2)).abs().max() == 0


def test_weights_follow_the_seed():
    first, again, other = (build(seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(0, 2))
def test_unknown_level_has_no_influence(value, index):
    model, condition = build(), make_condition(2)
    known = condition.known.clone()
    known[:, index] = False
    changed = condition.level.clone()
    changed[:, index] = value
    unknown = condition.with_levels(condition.level, known)
    assert torch.equal(velocity(model, unknown), velocity(model, unknown.with_levels(changed, known)))


def test_known_level_and_knowing_itself_matter():
    model, condition = build(), make_condition(2)
    every = torch.ones_like(condition.known)
    base = velocity(model, condition.with_levels(condition.level, every))
    moved = velocity(model, condition.with_levels(1 - condition.level, every))
    assert (base - moved).abs().amax((1, 2, 3)).min() > 1e-4
    assert (base - velocity(model, condition.unknown())).abs().amax((1, 2, 3)).min() > 1e-4


def test_masked_words_have_no_influence():
    model, condition = build(), make_condition(4)
    other = torch.where(condition.text_mask, condition.text, 19 - condition.text)
    assert torch.equal(velocity(model, condition), velocity(model, replace(condition, text=other)))


def test_padding_has_no_influence():
    model, condition = build(), make_condition(3, num_tokens=6)
    padded = replace(
        condition,
        text=torch.nn.functional.pad(condition.text, (0, 2)),
        text_mask=torch.nn.functional.pad(condition.text_mask, (0, 2)),
    )
    torch.testing.assert_close(velocity(model, padded), velocity(model, condition), atol=1e-5, rtol=1e-4)


def test_words_matter():
    model, condition = build(), make_condition(3)
    other = replace(condition, text=(condition.text + 1) % 20)
    assert (velocity(model, condition) - velocity(model, other)).abs().amax((1, 2, 3)).min() > 1e-4


def test_null_text_is_finite_and_forgets_the_words():
    model, condition = build(), make_condition(3)
    nothing = velocity(model, condition.null_text())
    assert torch.isfinite(nothing).all()
    assert torch.equal(nothing, velocity(model, replace(condition, text=condition.text * 0).null_text()))


def test_nothing_known_at_all_works():
    config = SMALL.model_copy(update={"num_rewards": 0})
    model = build(config)
    condition = make_condition(2, config).null_text()
    assert torch.isfinite(velocity(model, condition)).all()


def test_rows_of_a_batch_do_not_mix():
    model, condition = build(), make_condition(5)
    x, t = make_input(5)
    with torch.no_grad():
        together = model(x, t, model.prepare(condition)).velocity
        alone = [model(x[i : i + 1], t[i : i + 1], model.prepare(condition[i : i + 1])).velocity for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_preparing_happens_once_for_many_times():
    model, condition = build(), make_condition(2)
    x, _ = make_input(2)
    with torch.no_grad():
        prepared = model.prepare(condition)
        first = model(x, torch.full((2,), 0.9), prepared).velocity
        model(x, torch.full((2,), 0.2), prepared)
        assert torch.equal(first, model(x, torch.full((2,), 0.9), prepared).velocity)


def test_every_parameter_receives_a_gradient():
    model, condition = build(), make_condition(4)
    x, t = make_input(4)
    model(x, t, model.prepare(condition)).velocity.square().sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not missing


@pytest.mark.parametrize("seed", range(3))
def test_bf16_autocast_stays_close_to_fp32(seed):
    model, condition = build(seed=seed), make_condition(4, seed=seed)
    exact = velocity(model, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = velocity(model, condition)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() / exact.norm() < 0.03


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_patches_and_picture_are_inverse(size, rows, columns, channels):
    x = torch.randn(2, channels, rows * size, columns * size)
    tokens = patches(x, size)
    assert tokens.shape == (2, rows * columns, channels * size**2)
    torch.testing.assert_close(picture(tokens, (rows, columns), size), x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary_size": None}, "exactly one"),
        ({"text_dim": 8}, "exactly one"),
        ({"heads": 3}, "multiple of heads"),
        ({"patch": 4}, "multiple of patch"),
        ({"num_registers": 0}, "num_registers"),
    ],
)
def test_impossible_settings_are_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        DiTConfig.parse(SMALL.dump() | change)


def test_factory_builds_what_the_settings_say_and_gives_them_back():
    torch.manual_seed(0)
    model = build_denoiser(SMALL.dump())
    assert isinstance(model, DiT)
    assert build_denoiser(model.config.dump()).config == SMALL


@pytest.mark.parametrize("settings", [{}, {"kind": 3}])
def test_factory_needs_a_kind(settings):
    with pytest.raises(ConfigError, match="'kind'"):
        build_denoiser(settings)


def test_factory_names_the_nearest():
    with pytest.raises(UnknownNameError, match="dit"):
        build_denoiser({"kind": "dti"})
    with pytest.raises(UnknownNameError, match="Did you mean 'width'"):
        build_denoiser(SMALL.dump() | {"widht": 3})
