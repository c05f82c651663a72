"""Two processes under torchrun compute what one does, and a run may move between the two."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from openmiro.core.log import read_metrics

PROGRAM = Path(__file__).parent / "train_program.py"
# Muon's bf16 iterations magnify differences in the last bit, which another order of additions makes.
SETTINGS = ("optimizer={kind: adamw, learning_rate: 3e-3}", "images=960", "checkpoint.every_images=160")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package"),
]


def command(run, processes, *overrides, data="random"):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return [sys.executable, *launcher, str(PROGRAM), str(run), data, *SETTINGS, *overrides]


def start(run, processes, *overrides, data="random"):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(run, processes, *overrides, data=data),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(run, processes, *overrides, code=0, data="random"):
    process = start(run, processes, *overrides, data=data)
    _, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return err


def losses(run):
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")]


def final_weights(run, name="denoiser"):
    return load_file(run / (run / "latest").read_text().strip() / f"{name}.safetensors")


def assert_close(run, other):
    assert losses(run) == pytest.approx(losses(other), rel=1e-4)
    for name in ("denoiser", "ema"):
        weights, expected = final_weights(run, name), final_weights(other, name)
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=2e-5, msg=lambda m, key=key: f"{key}: {m}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    finish(run, 1)
    return run


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    run = tmp_path_factory.mktemp("together") / "run"
    finish(run, 2)
    return run


def test_two_processes_compute_what_one_does(alone, together):
    assert len(losses(alone)) == 120
    assert_close(together, alone)


def test_two_processes_with_accumulation_and_workers(alone, tmp_path):
    run = tmp_path / "run"
    finish(run, 2, "gradient_accumulation=2", "num_data_workers=1")
    assert_close(run, alone)


def wait_for_step(run, step, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = read_metrics(run / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached: {process.communicate()[1]}")


def kill(process, run):
    """SIGKILL for the launcher and its workers, which live in sessions of their own."""
    workers = [int(p.read_text()) for p in run.parent.glob(f"{run.name}.pid*")]
    for pid in {process.pid, *workers}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_killed_with_two_processes_and_resumed_with_two_it_is_bit_identical(together, tmp_path):
    run = tmp_path / "run"
    process = start(run, 2)
    wait_for_step(run, 45, process)
    kill(process, run)
    assert losses(run) != losses(together)
    finish(run, 2)
    assert (run / "metrics.jsonl").read_bytes() == (together / "metrics.jsonl").read_bytes()
    for name in ("denoiser", "ema"):
        assert all(torch.equal(v, final_weights(together, name)[k]) for k, v in final_weights(run, name).items())


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_moves_between_numbers_of_processes(alone, tmp_path, before, after):
    run = tmp_path / "run"
    process = start(run, before)
    wait_for_step(run, 45, process)
    kill(process, run)
    state = json.loads((run / (run / "latest").read_text().strip() / "state.json").read_text())
    assert state["progress"]["world_size"] == before
    finish(run, after)
    assert_close(run, alone)


def test_a_signal_to_one_process_saves_once_and_stops_all(alone, tmp_path):
    run = tmp_path / "run"
    process = start(run, 2)
    wait_for_step(run, 45, process)
    os.kill(int(Path(f"{run}.pid1").read_text()), signal.SIGUSR1)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "InterruptedTrainingError" in err
    assert "exitcode  : 75" in err
    stopped = losses(run)
    assert 45 <= len(stopped) < 120
    assert (run / "latest").read_text().strip() == f"checkpoints/step-{len(stopped):06d}"
    finish(run, 2)
    assert_close(run, alone)


def test_a_batch_that_cannot_be_divided_is_named(tmp_path):
    err = finish(tmp_path / "run", 2, "batch_size=9", code=1)
    assert "batch_size (9) must be a multiple of processes" in err


def test_a_loss_that_is_not_finite_in_one_process_names_its_sample_in_all(tmp_path):
    run = tmp_path / "run"
    err = finish(run, 2, code=1, data="poisoned")
    # Position 30 is row 6 of step 4, which belongs to the second process.
    report = json.loads((run / "crash-step-000004.json").read_text())
    assert [s["key"] for s in report["samples"]] == ["random-30"]
    assert err.count("NonFiniteLossError: the loss of step 4 is not finite: random-30 at t = ") == 2
    assert len(losses(run)) == 3
