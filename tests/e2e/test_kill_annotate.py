"""SIGKILL at random moments of annotate and encode, then the same command again: byte-identical artifacts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.builders import tree_bytes
from tests.e2e.commands import succeed

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kill_annotate.py"
POINTS = 5


@pytest.mark.slow
def test_killed_at_random_moments_gives_the_same_bytes(tmp_path):
    out = tmp_path / "points.json"
    command = [sys.executable, BENCHMARK, "--points", str(POINTS), "--pairs", "120", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    points = json.loads(out.read_text())
    assert [p["stage"] for p in points].count("annotate") == POINTS
    assert [p["stage"] for p in points].count("encode") == POINTS
    assert all(p["is_identical"] for p in points)
    # At least some kills must have come in the middle of the work for this to prove anything.
    assert len({p["files_committed"] for p in points if p["stage"] == "annotate"}) > 2


@pytest.mark.slow
def test_the_command_with_worker_processes(tmp_path):
    succeed("data", "synth", tmp_path / "shards", "--pairs", 60, "--pairs-per-shard", 10, "--workers", 0)
    arguments = ["annotate", tmp_path / "shards", "--rewards", "lab", "--workers"]
    succeed(*arguments, 0, "--out", tmp_path / "reference")
    command = [sys.executable, "-m", "openmiro.cli.main", *arguments, "2", "--out", tmp_path / "killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    while process.poll() is None and len(list((tmp_path / "killed").rglob("*.parquet.json"))) < 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    succeed(*arguments, 0, "--out", tmp_path / "killed")
    assert tree_bytes(tmp_path / "killed") == tree_bytes(tmp_path / "reference")
