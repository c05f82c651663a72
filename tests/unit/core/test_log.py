import json
from pathlib import Path

import pytest

from openmiro.core.errors import DiskFullError
from openmiro.core.log import JsonlSink, RunLog, read_metrics


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, steps, after_step=0):
    sink = JsonlSink(path, after_step)
    for step in steps:
        sink.write(step, step * 8, {"train/loss": 1 / (3 + step)})
    sink.flush()
    sink.close()


def test_numbers_survive_exactly(tmp_path):
    write(tmp_path / "m.jsonl", range(1, 4))
    assert [line["train/loss"] for line in lines(tmp_path / "m.jsonl")] == [1 / 4, 1 / 5, 1 / 6]


def test_a_resumed_file_has_the_bytes_of_one_that_never_stopped(tmp_path):
    write(tmp_path / "whole.jsonl", range(1, 11))
    write(tmp_path / "cut.jsonl", range(1, 8))
    write(tmp_path / "cut.jsonl", range(5, 11), after_step=4)
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("torn", ['{"step": 4, "ima', '{"step": 4}\n{"st', "\x00\x00\x00"])
def test_a_line_torn_by_a_crash_is_dropped(tmp_path, torn):
    path = tmp_path / "m.jsonl"
    write(path, range(1, 4))
    with path.open("a") as file:
        file.write(torn)
    assert read_metrics(path)[:3] == lines_of(range(1, 4))
    write(path, [4], after_step=3)
    assert lines(path) == lines_of(range(1, 5))


def lines_of(steps):
    return [{"step": s, "images": s * 8, "train/loss": 1 / (3 + s)} for s in steps]


def test_a_fresh_start_removes_old_lines(tmp_path):
    write(tmp_path / "m.jsonl", range(1, 4))
    write(tmp_path / "m.jsonl", [1], after_step=0)
    assert lines(tmp_path / "m.jsonl") == lines_of([1])


def test_nan_is_refused_rather_than_written_as_invalid_json(tmp_path):
    sink = JsonlSink(tmp_path / "m.jsonl")
    with pytest.raises(ValueError):
        sink.write(1, 8, {"train/loss": float("nan")})
    sink.close()


def test_what_the_clock_decides_stays_out_of_metrics(tmp_path):
    with RunLog(tmp_path) as log:
        log.metrics(1, 8, {"train/loss": 0.5})
        log.timing(1, 8, {"train/images_per_second": 3.0})
        log.flush()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "images": 8, "train/loss": 0.5}]
    assert lines(tmp_path / "timing.jsonl") == [{"step": 1, "images": 8, "train/images_per_second": 3.0}]


def test_tensorboard_files_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra 'track'")
    with RunLog(tmp_path) as log:
        log.metrics(1, 8, {"train/loss": 0.5})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("train/loss")] == [0.5]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the Linux device that is always full")
def test_a_full_disk_is_named(tmp_path):
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink._file.close()
    with Path("/dev/full").open("a") as full:
        sink._file = full
        with pytest.raises(DiskFullError, match=r"metrics\.jsonl"):
            write_many(sink)


def write_many(sink):
    for step in range(10_000):
        sink.write(step, step, {"train/loss": 0.5})


def test_other_processes_write_nothing(tmp_path):
    with RunLog(None) as log:
        log.metrics(1, 8, {"train/loss": 0.5})
        log.flush()
    assert not list(tmp_path.iterdir())
