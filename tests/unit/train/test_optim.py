import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from openmiro.core.errors import ConfigError
from openmiro.models.dit import DiT, DiTConfig
from openmiro.models.layers import Matrix
from openmiro.train.optim import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    learning_rate_factor,
    newton_schulz,
    set_learning_rate,
)

CONFIG = DiTConfig(latent_shape=(4, 4, 4), num_rewards=2, vocabulary_size=9, width=16, depth=2, heads=2)


class Toy(nn.Module):
    """One of each kind: a matrix of two parts, a plain linear map with bias."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Matrix(6, 16, num_parts=2)
        self.outer = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.tanh(self.inner(x)))


def toy_step(model: Toy, optimizer: torch.optim.Optimizer, seed: int) -> float:
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))
    loss = (model(x) - x[:, :3]).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def build_toy(kind: str, **settings: float) -> tuple[Toy, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Toy()
    return model, build_optimizer(model, OptimizerSettings.parse({"kind": kind, **settings}))  # type: ignore[arg-type]


def test_adamw_equals_torch():
    model, optimizer = build_toy("adamw", learning_rate=0.01, weight_decay=0.1)
    torch.manual_seed(0)
    reference = Toy()
    decayed = [p for p in reference.parameters() if p.ndim > 1]
    plain = [p for p in reference.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    torch_optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    for seed in range(20):
        toy_step(model, optimizer, seed)
        toy_step(reference, torch_optimizer, seed)
    for own, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_both_kinds_learn(kind):
    model, optimizer = build_toy(kind, learning_rate=0.02, adamw_learning_rate=0.02)
    losses = [toy_step(model, optimizer, seed) for seed in range(300)]
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])


def test_first_muon_update_is_orthogonal_per_part_and_of_stated_size():
    model, optimizer = build_toy("muon", learning_rate=0.5)
    before = model.inner.weight.detach().clone()
    toy_step(model, optimizer, 0)
    update = (model.inner.weight.detach() - before) / -0.5
    for part in update.unflatten(0, (2, 8)):
        singular = torch.linalg.svdvals(part) / (0.2 * math.sqrt(8))
        # The quintic iteration leaves singular values within about 0.3 of 1, whatever they were.
        assert singular.min() > 0.6
        assert singular.max() < 1.4
    assert update.square().mean().sqrt().item() == pytest.approx(0.2 * math.sqrt(6 / 6), rel=0.25)


def test_parts_of_a_fused_matrix_do_not_mix():
    """The update of one part depends on that part's gradient alone."""
    updates = []
    for scale in (1.0, 100.0):
        model, optimizer = build_toy("muon", learning_rate=1.0)
        before = model.inner.weight.detach().clone()
        gradient = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
        gradient[8:] *= scale
        model.inner.weight.grad = gradient
        optimizer.step()
        updates.append(model.inner.weight.detach()[:8] - before[:8])
    assert torch.equal(*updates)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.floats(1e-6, 1e6))
def test_newton_schulz_keeps_directions_and_evens_out_sizes(num, rows, columns, scale):
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    shape = (min(rows, columns), max(rows, columns))
    q, _ = torch.linalg.qr(torch.randn(num, shape[1], shape[0], generator=generator))
    matrix = q.mT if rows <= columns else q
    # A scaled orthogonal matrix must come back orthogonal, same directions.
    result = newton_schulz(scale * matrix)
    inner = (result * matrix).sum((1, 2)) / shape[0]
    assert ((inner > 0.6) & (inner < 1.3)).all()


def test_stacking_does_not_change_the_result():
    matrices = torch.randn(5, 8, 6)
    together = newton_schulz(matrices)
    alone = torch.cat([newton_schulz(m[None]) for m in matrices])
    torch.testing.assert_close(together, alone, atol=0.02, rtol=0)


def test_matrices_go_to_muon_and_all_parameters_are_optimized_once():
    model = DiT(CONFIG)
    optimizer = build_optimizer(model, OptimizerSettings(kind="muon"))
    grouped = [(id(p), g["kind"]) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(i for i, _ in grouped) == sorted(map(id, model.parameters()))
    by_muon = {i for i, kind in grouped if kind == "muon"}
    names = {name for name, p in model.named_parameters() if id(p) in by_muon}
    assert "blocks.0.attention.qkv.weight" in names
    assert "key_value.weight" in names
    assert not any(part in name for name in names for part in ("text", "rewards", "position", "modulation", "local"))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_saved_state_continues_bit_for_bit_through_safetensors(kind):
    model, optimizer = build_toy(kind)
    for seed in range(3):
        toy_step(model, optimizer, seed)
    state = optimizer.state_dict()
    tensors = {f"{i}.{k}": v for i, s in state["state"].items() for k, v in s.items()}
    assert all(isinstance(v, torch.Tensor) for v in tensors.values())
    restored = load(save(tensors))
    other, fresh = build_toy(kind)
    other.load_state_dict(model.state_dict())
    saved: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in restored.items():
        index, name = key.split(".")
        saved.setdefault(int(index), {})[name] = value
    fresh.load_state_dict({"state": saved, "param_groups": fresh.state_dict()["param_groups"]})
    for seed in range(3, 6):
        assert toy_step(model, optimizer, seed) == toy_step(other, fresh, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_set_learning_rate_scales_each_group():
    _, optimizer = build_toy("muon", learning_rate=0.4, adamw_learning_rate=0.1)
    set_learning_rate(optimizer, 0.5)
    assert {g["kind"]: g["lr"] for g in optimizer.param_groups} == {"muon": 0.2, "adamw": 0.05}
    set_learning_rate(optimizer, 1.0)
    assert {g["kind"]: g["lr"] for g in optimizer.param_groups} == {"muon": 0.4, "adamw": 0.1}


def test_linear_schedule_by_hand():
    settings = ScheduleSettings(warmup_images=100, decay="linear")
    values = [learning_rate_factor(n, settings, 1100) for n in (0, 50, 100, 600, 1100, 2000)]
    assert values == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.0, 0.0])


def test_decay_share_holds_the_peak_first():
    settings = ScheduleSettings(decay="linear", decay_share=0.2)
    values = [learning_rate_factor(n, settings, 1000) for n in (0, 799, 900, 1000)]
    assert values == pytest.approx([1.0, 1.0, 0.5, 0.0])


def test_cosine_and_final_factor():
    settings = ScheduleSettings(decay="cosine", final_factor=0.1)
    values = [learning_rate_factor(n, settings, 1000) for n in (0, 500, 1000)]
    assert values == pytest.approx([1.0, 0.55, 0.1])


def test_constant_stays():
    assert learning_rate_factor(10**9, ScheduleSettings(decay="constant"), 10) == 1.0


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 2000), st.integers(0, 500), st.floats(0.05, 1))
def test_factor_stays_in_the_unit_interval(decay, images_seen, warmup, share):
    settings = ScheduleSettings(warmup_images=warmup, decay=decay, decay_share=share)
    assert 0 <= learning_rate_factor(images_seen, settings, 1000) <= 1


@pytest.mark.parametrize("values", [{"learning_rate": 0}, {"kind": "sgd"}, {"momentum": 1.0}])
def test_impossible_settings_are_errors(values):
    with pytest.raises(ConfigError):
        OptimizerSettings.parse(values)
