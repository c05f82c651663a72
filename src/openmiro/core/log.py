"""Metric sinks: JSON lines always, TensorBoard where it is installed.

`metrics.jsonl` holds only what the computation determines, one line per step, so that a run that was killed and resumed
ends with the very bytes of a run that never stopped. Whatever the clock determines goes to `timing.jsonl`.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from openmiro.core.artifact import naming_full_disk, write_text

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"


class MetricSink(Protocol):
    """Receives named numbers of one step."""

    def write(self, step: int, images: int, values: Mapping[str, float]) -> None: ...

    def flush(self) -> None:
        """Returns when everything written would survive a power failure."""
        ...

    def close(self) -> None: ...


class JsonlSink:
    """Appends one JSON object per call.

    Args:
        path: the file.
        after_step: lines of later steps are removed first: the run goes on from there and will write them again.
    """

    def __init__(self, path: Path, after_step: int = 0) -> None:
        _truncate(path, after_step)
        self._path = path
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Raises `DiskFullError` where no space is left, as the other two do."""
        line = json.dumps({"step": step, "images": images, **values}, allow_nan=False)
        with naming_full_disk(self._path):
            self._file.write(line + "\n")

    def flush(self) -> None:
        with naming_full_disk(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with naming_full_disk(self._path):
            self._file.close()


class TensorBoardSink:
    """Writes TensorBoard event files. Needs the extra `track`."""

    def __init__(self, folder: Path, after_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)

    def write(self, step: int, images: int, values: Mapping[str, float]) -> None:
        del images
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class RunLog:
    """The metrics of one run folder.

    Args:
        folder: the run folder; None writes nothing (a process other than the first).
        after_step: the step that the run goes on from; later lines are removed.
    """

    def __init__(self, folder: Path | None, after_step: int = 0) -> None:
        self._exact: list[MetricSink] = []
        self._timing: list[MetricSink] = []
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._exact.append(JsonlSink(folder / METRICS_FILE, after_step))
        self._timing.append(JsonlSink(folder / TIMING_FILE, after_step))
        if importlib.util.find_spec("tensorboard") is not None:
            board = TensorBoardSink(folder / "tensorboard", after_step)
            self._exact.append(board)
            self._timing.append(board)

    def metrics(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Writes what the computation determines."""
        for sink in self._exact:
            sink.write(step, images, values)

    def timing(self, step: int, images: int, values: Mapping[str, float]) -> None:
        """Writes what the clock determines."""
        for sink in self._timing:
            sink.write(step, images, values)

    def flush(self) -> None:
        """Returns when everything written would survive a power failure."""
        for sink in self._exact + self._timing:
            sink.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._exact + self._timing:
            sink.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file of metrics; a line torn by a crash ends the list."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _truncate(path: Path, after_step: int) -> None:
    if not path.exists():
        return
    kept: Sequence[dict[str, Any]] = [line for line in read_metrics(path) if line["step"] <= after_step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
