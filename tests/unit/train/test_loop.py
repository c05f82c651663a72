"""The loop on random samples: what a step computes, and that nothing but the recipe decides it."""

import dataclasses
import json
import os
import signal
from dataclasses import dataclass

import pytest
import torch

from openmiro.core.errors import CheckpointError, ConfigError, InterruptedTrainingError, NonFiniteLossError
from openmiro.core.log import read_metrics
from openmiro.train.checkpoint import CheckpointWarning, list_checkpoints, load_latest
from openmiro.train.loop import train
from openmiro.train.recipe import load_recipe
from openmiro.train.source import RandomSource

REWARDS = ("aesthetic", "shadow")
SOURCE = RandomSource((4, 4, 4), REWARDS)
TINY = (
    "images=96",
    "batch_size=8",
    "rewards=[aesthetic,shadow]",
    "sampling={}",
    "samples={}",
    "model={kind: dit, width: 16, depth: 1, heads: 2}",
    "checkpoint={every_images: 32, keep: 10}",
    "schedule={warmup_images: 16}",
    "log.every_steps=5",
    "precision=fp32",
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(*overrides):
    return load_recipe("lab-miro", [*TINY, *overrides])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that never stopped."""
    run = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train(tiny(), run, source=SOURCE)
    return run


def losses(run):
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")]


def assert_same_run(run, other):
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for name in ("denoiser", "ema", "optimizer"):
        last, reference = list_checkpoints(run)[-1], list_checkpoints(other)[-1]
        assert last.name == reference.name
        file = f"{name}.safetensors"
        assert (last / file).read_bytes() == (reference / file).read_bytes(), file


class StoppedError(Exception):
    pass


@dataclass
class StopAt:
    """A crash after a step: nothing is saved."""

    step: int

    def after_step(self, session):
        if session.step == self.step:
            raise StoppedError


@dataclass
class SignalAt:
    step: int
    number: int

    def after_step(self, session):
        if session.step == self.step:
            os.kill(os.getpid(), self.number)


def test_a_run_leaves_what_it_promises(whole):
    names = {p.name for p in whole.iterdir()}
    assert {"config.yaml", "env.json", "metrics.jsonl", "timing.jsonl", "checkpoints", "latest"} <= names
    assert [p.name for p in list_checkpoints(whole)] == ["step-000004", "step-000008", "step-000012"]
    lines = read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["images"] for line in lines] == list(range(8, 97, 8))
    assert all(set(line) == {"step", "images", *METRICS} for line in lines)
    assert [line["step"] for line in read_metrics(whole / "timing.jsonl")] == [4, 5, 8, 10, 12]
    model = json.loads((list_checkpoints(whole)[-1] / "model.json").read_text())
    assert model["denoiser"]["kind"] == "dit"
    assert [spec["name"] for spec in model["rewards"]["specs"]] == list(REWARDS)
    assert model["resolution"] == 4


METRICS = ("train/loss", "train/gradient_norm", "train/learning_rate")


def test_the_learning_rate_follows_images_seen(whole):
    rates = [line["train/learning_rate"] for line in read_metrics(whole / "metrics.jsonl")]
    peak = tiny().optimizer.learning_rate
    assert max(rates) == pytest.approx(peak)
    assert rates[0] < rates[1] < peak
    assert rates[-1] == pytest.approx(peak * 8 / 80)


def test_it_learns(tmp_path):
    recipe = tiny("images=1600", "checkpoint.every_images=1600", "optimizer={kind: adamw, learning_rate: 1e-2}")
    train(recipe, tmp_path, source=SOURCE)
    found = losses(tmp_path)
    assert sum(found[-20:]) < 0.8 * sum(found[:20])


@pytest.mark.parametrize("steps", [(1,), (3, 5), (4,), (7, 8, 9), (11,)])
def test_crashed_anywhere_and_run_again_it_is_the_same_run(whole, tmp_path, steps):
    for step in steps:
        with pytest.raises(StoppedError):
            train(tiny(), tmp_path, source=SOURCE, hooks=[StopAt(step)])
    result = train(tiny(), tmp_path, source=SOURCE)
    assert result.resumed_from == steps[-1] // 4 * 4 - (4 if steps[-1] % 4 == 0 else 0)
    assert_same_run(tmp_path, whole)


def test_resuming_with_other_workers_is_the_same_run(whole, tmp_path):
    with pytest.raises(StoppedError):
        train(tiny(), tmp_path, source=SOURCE, hooks=[StopAt(6)])
    train(tiny("num_data_workers=2"), tmp_path, source=SOURCE)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_saves_after_the_step_and_the_run_goes_on(whole, tmp_path, name):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"this system has no {name}")
    handler = signal.getsignal(number)
    with pytest.raises(InterruptedTrainingError, match=f"{name} after step 6 of 12") as caught:
        train(tiny(), tmp_path, source=SOURCE, hooks=[SignalAt(6, number)])
    assert caught.value.exit_code == 75
    assert signal.getsignal(number) is handler
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.progress.step == 6
    assert train(tiny(), tmp_path, source=SOURCE).resumed_from == 6
    assert_same_run(tmp_path, whole)


def test_a_finished_run_is_left_alone(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")}
    result = train(tiny(), whole, source=SOURCE)
    assert "nothing left to do" in result.summary()
    assert result.checkpoint == list_checkpoints(whole)[-1]
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*.safetensors")} == before
    assert len(losses(whole)) == 12


def test_a_damaged_newest_checkpoint_costs_its_steps_only(whole, tmp_path):
    with pytest.raises(StoppedError):
        train(tiny(), tmp_path, source=SOURCE, hooks=[StopAt(10)])
    path = list_checkpoints(tmp_path)[-1] / "denoiser.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(CheckpointWarning, match="step-000008"):
        assert train(tiny(), tmp_path, source=SOURCE).resumed_from == 4
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_changes_rounding_only(whole, tmp_path, parts):
    # AdamW: Muon's five bf16 iterations magnify a difference in the last bit of a gradient.
    adamw = "optimizer.kind=adamw"
    train(tiny(adamw), tmp_path / "one", source=SOURCE)
    train(tiny(adamw, f"gradient_accumulation={parts}"), tmp_path / "parts", source=SOURCE)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


@dataclass(frozen=True)
class Poisoned(RandomSource):
    """One position whose latent is not a number."""

    position: int = 0

    def samples(self, positions):
        samples = super().samples(positions)
        latent = samples.latent.clone()
        latent[torch.as_tensor(positions) == self.position] = float("nan")
        return samples._replace(latent=latent)


@pytest.mark.parametrize(("position", "step"), [(0, 1), (21, 3), (95, 12)])
def test_a_loss_that_is_not_finite_names_its_sample(tmp_path, position, step):
    source = Poisoned((4, 4, 4), REWARDS, position=position)
    with pytest.raises(NonFiniteLossError) as caught:
        train(tiny(), tmp_path, source=source)
    report = json.loads((tmp_path / f"crash-step-{step:06d}.json").read_text())
    assert [s["key"] for s in report["samples"]] == [f"random-{position}"]
    assert 0 < report["samples"][0]["t"] < 1
    for words in (f"step {step} ", f"random-{position} at t = {report['samples'][0]['t']:.4f}", "learning rate"):
        assert words in str(caught.value)
    assert len(losses(tmp_path)) == step - 1
    saved = [int(p.name.removeprefix("step-")) for p in list_checkpoints(tmp_path)]
    assert all(s < step for s in saved)


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    class Poison:
        def after_step(self, session):
            next(session.denoiser.parameters()).register_hook(lambda g: g * float("inf"))

    with pytest.raises(NonFiniteLossError, match="gradient of step 2"):
        train(tiny(), tmp_path, source=SOURCE, hooks=[Poison()])


def test_a_folder_of_another_recipe_or_other_data(whole, tmp_path):
    with pytest.raises(CheckpointError, match="seed"):
        train(tiny("seed=1"), whole, source=SOURCE)
    with pytest.raises(Exception, match="other training data"):
        train(tiny(), whole, source=dataclasses.replace(SOURCE, seed=1))


def test_a_recipe_without_a_dataset_says_what_to_type(tmp_path):
    with pytest.raises(ConfigError, match="openmiro train lab-miro --data DATASET"):
        train(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_divided(tmp_path):
    with pytest.raises(ConfigError, match="multiple"):
        tiny("gradient_accumulation=3")


def test_precision_and_threads_stay_what_they_were(tmp_path):
    with pytest.raises(StoppedError):
        train(tiny("precision=auto", "threads=2"), tmp_path, source=SOURCE, hooks=[StopAt(1)])
    began = json.loads((tmp_path / "env.json").read_text())
    assert began["threads"] == 2
    assert torch.get_num_threads() == 1

    class Look:
        def after_step(self, session):
            assert torch.get_num_threads() == 2
            assert session.precision == began["precision"]

    train(tiny("precision=auto"), tmp_path, source=SOURCE, hooks=[Look()])


def test_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(tiny("images=8"), tmp_path, source=SOURCE)
    assert torch.equal(torch.rand(3), expected)


def test_bf16_follows_fp32(whole, tmp_path):
    train(tiny("precision=bf16"), tmp_path, source=SOURCE)
    assert losses(tmp_path) == pytest.approx(losses(whole), rel=0.05)
    assert losses(tmp_path) != losses(whole)


def test_without_rewards(tmp_path):
    recipe = tiny("rewards=[]")
    train(recipe, tmp_path, source=RandomSource((4, 4, 4)))
    assert len(losses(tmp_path)) == 12
