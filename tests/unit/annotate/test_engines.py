import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.builders import tree_bytes, write_shards

from openmiro.annotate import annotate
from openmiro.annotate.engines import LocalEngine, available_cores, sigterm_as_interrupt
from openmiro.annotate.tasks import AnnotateTask
from openmiro.data.store import Dataset
from openmiro.data.verify import verify

SCRIPT = """
import sys
from openmiro.annotate import annotate
if __name__ == "__main__":
    print("ready", flush=True)
    try:
        annotate(sys.argv[1], sys.argv[2], ["tests.toys:Slow"], num_workers=int(sys.argv[3]))
    except KeyboardInterrupt:
        sys.exit(75)
"""


def start(tmp_path, shards, num_workers):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, shards, tmp_path / "d", str(num_workers)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and a test run in one would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: list((tmp_path / "d" / "rows").glob("*.json")), process)
    return process


def wait_for(condition, process=None, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def finished(tmp_path, shards):
    annotate(shards, tmp_path / "d", ["tests.toys:Slow"], num_workers=0)
    annotate(shards, tmp_path / "once", ["tests.toys:Slow"], num_workers=0)
    assert tree_bytes(tmp_path / "d") == tree_bytes(tmp_path / "once")
    assert verify(tmp_path / "d") == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(tmp_path, number):
    shards = write_shards(tmp_path / "s", 40)
    process = start(tmp_path, shards, 0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    finished(tmp_path, shards)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path, number):
    shards = write_shards(tmp_path / "s", 80)
    process = start(tmp_path, shards, 2)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.communicate(timeout=60)
    wait_for(lambda: not any(is_alive(pid) for pid in workers), seconds=20)
    finished(tmp_path, shards)


@pytest.mark.slow
def test_two_runs_at_once_do_no_harm(tmp_path):
    shards = write_shards(tmp_path / "s", 40)
    first = start(tmp_path, shards, 0)
    second = start(tmp_path, shards, 0)
    for process in (first, second):
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
    finished(tmp_path, shards)


def test_reports_come_in_the_order_of_the_tasks(tmp_path):
    shards = write_shards(tmp_path / "s", 30, rows_per_shard=5)
    annotate(shards, tmp_path / "d", num_workers=0)
    dataset = Dataset.open(tmp_path / "d")
    tasks = [AnnotateTask(dataset.folder, shard, ()) for shard in reversed(dataset.shards)]
    assert [r.shard for r in LocalEngine(0).run(tasks, "again")] == list(reversed(dataset.shards))


def test_no_tasks():
    assert LocalEngine(4).run([], "nothing") == []


def test_default_is_one_worker_per_core():
    assert LocalEngine().num_workers == available_cores() >= 1


def test_sigterm_handler_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is before
