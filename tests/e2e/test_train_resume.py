"""SIGKILL at random moments: run again, training ends with the bytes of a run that never stopped."""

import os
import signal
import subprocess
import time

import pytest
from benchmarks.kill_train import command, kill_repeatedly, same_result, train_to_the_end

from openmiro.core.log import read_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory, lab_dataset):
    folder = tmp_path_factory.mktemp("runs")
    train_to_the_end(folder / "whole", lab_dataset)
    return folder


def test_killed_anywhere(runs, lab_dataset):
    kills = kill_repeatedly(runs / "run", lab_dataset, num_kills=6, workers=[0, 0, 2], seed=1)
    assert len(kills) == 6
    assert any(kill.steps_logged for kill in kills)


@pytest.mark.parametrize(("name", "workers"), [("SIGTERM", 0), ("SIGINT", 2)])
def test_a_signal_to_the_whole_group_saves_and_leaves_with_code_75(runs, lab_dataset, tmp_path, name, workers):
    run = tmp_path / "run"
    arguments = command(run, lab_dataset, f"num_data_workers={workers}")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(read_metrics(run / "metrics.jsonl")) < 9 and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "Run the same command again" in err
    assert "Traceback" not in err
    steps = len(read_metrics(run / "metrics.jsonl"))
    assert (run / "latest").read_text() == f"checkpoints/step-{steps:06d}\n"
    train_to_the_end(run, lab_dataset, "num_data_workers=1")
    assert same_result(run, runs / "whole") == []


def test_the_comparison_can_fail(runs, lab_dataset, tmp_path):
    train_to_the_end(tmp_path / "run", lab_dataset, "seed=1")
    assert "metrics.jsonl" in same_result(tmp_path / "run", runs / "whole")
