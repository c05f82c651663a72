"""Training both models side by side: one process each where there are cores for it, on equally many pictures."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from openmiro.core.errors import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    DataError,
    InterruptedTrainingError,
    OpenMiroError,
)
from openmiro.core.log import TIMING_FILE, read_metrics
from openmiro.quickstart.clock import TICK_SECONDS
from openmiro.quickstart.processes import spawn_environment
from openmiro.train.checkpoint import check_checkpoint, checkpoint_folder
from openmiro.train.recipe import Recipe
from openmiro.train.runs import check_same_recipe


@dataclass(frozen=True)
class Job:
    """One model to train."""

    name: str
    recipe: Recipe
    run: Path


class _Report:
    """A training hook that tells the first process how far this one is, and does not outlive it.

    Args:
        value: in shared memory.
    """

    def __init__(self, value: Any) -> None:
        self.value, self.parent = value, os.getppid()

    def after_step(self, session: Any) -> None:
        self.value.value = session.images
        if os.getppid() != self.parent:  # else a rerun would find two processes writing to one run
            raise InterruptedTrainingError("the process that started this one is gone")


def train_all(jobs: Sequence[Job], threads: int, console: Console) -> None:
    """Trains jobs at once where there is a thread for each, else one after the other; finished runs cost nothing.

    Raises:
        InterruptedTrainingError: stopped by a signal; every model was saved.
        OpenMiroError: a model could not be trained; the message names its log.
    """
    at_once = len(jobs) if threads >= len(jobs) else 1
    jobs = [job for job in jobs if not is_finished(job)]
    with _bars(console) as bars, ExitStack() as stack:
        running = [_Running(job, bars, stack) for job in jobs]
        waiting, active = list(running), []
        while waiting or active:
            while waiting and len(active) < at_once:
                active.append(waiting.pop(0))
                active[-1].start()
            time.sleep(0.2)
            for item in running:
                item.show()
            for item in [a for a in active if not a.process.is_alive()]:
                active.remove(item)
                item.check()


def is_finished(job: Job) -> bool:
    """Whether the run of this very recipe has its last checkpoint, whole.

    Raises:
        CheckpointError: the folder belongs to another recipe.
    """
    check_same_recipe(job.run, job.recipe)
    try:
        check_checkpoint(checkpoint_folder(job.run, job.recipe.num_steps))
    except DataError:
        return False
    return True


def threads_per_job(threads: int, num_jobs: int = 2) -> int:
    """Arithmetic threads for each model."""
    return max(1, threads // num_jobs)


class _Running:
    """One training process and its bar."""

    def __init__(self, job: Job, bars: _Bars, stack: ExitStack) -> None:
        self.job, self.bars = job, bars
        context = multiprocessing.get_context("spawn")
        self.images = context.Value("q", 0, lock=False)
        self.log = job.run.with_name(job.run.name + ".log")
        self.process = context.Process(
            target=_train, args=(job.recipe, job.run, self.images, self.log), name=job.name, daemon=False
        )
        self.bar = bars.add(job.name, job.recipe.num_steps * job.recipe.batch_size)
        stack.callback(self.stop)

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with spawn_environment(self.job.recipe.threads or 1):
            self.process.start()

    def show(self) -> None:
        self.bars.set(self.bar, self.images.value)

    def stop(self) -> None:
        """Lets a process that still runs save and end."""
        if self.process.pid is not None and self.process.is_alive():
            self.process.terminate()
            self.process.join()

    def check(self) -> None:
        self.process.join()
        code = self.process.exitcode
        if code == 0:
            self.bars.set(self.bar, self.job.recipe.num_steps * self.job.recipe.batch_size)
            return
        last = _last_line(self.log)
        if code == EXIT_INTERRUPTED:
            raise InterruptedTrainingError(f"training of {self.job.name} was stopped and saved. {last}")
        raise OpenMiroError(f"training of {self.job.name} failed (exit code {code}): {last} See {self.log}.")


def _train(recipe: Recipe, run: Path, images: Any, log: Path) -> None:
    """Runs in a process of its own; what it says goes to its log."""
    from openmiro.train.loop import train

    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            sys.stdout.write(train(recipe, run, hooks=[_Report(images)]).summary() + "\n")
        except OpenMiroError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            raise SystemExit(error.exit_code or EXIT_USER_ERROR) from None


def images_per_second(run: Path) -> float:
    """Speed of a run's training in its later half, as it was measured; 0 where nothing was."""
    lines = [t for t in read_metrics(run / TIMING_FILE) if "train/seconds" in t]
    rates = sorted(t["train/images_per_second"] for t in lines[len(lines) // 2 :])
    return float(rates[len(rates) // 2]) if rates else 0.0


class _Bars:
    """Progress bars on a terminal; elsewhere a line now and then, so that a log shows life."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.state: dict[Any, tuple[str, int, int]] = {}
        self.said = time.monotonic()

    def add(self, name: str, total: int) -> Any:
        bar = self.progress.add_task(name, total=total)
        self.state[bar] = (name, 0, total)
        return bar

    def set(self, bar: Any, images: int) -> None:
        name, _, total = self.state[bar]
        self.state[bar] = (name, images, total)
        self.progress.update(bar, completed=images)
        if not self.console.is_terminal and time.monotonic() - self.said > TICK_SECONDS:
            self.said = time.monotonic()
            parts = ", ".join(f"{n} {done:,} of {all_:,} images" for n, done, all_ in self.state.values())
            self.console.print(f"  {parts}", highlight=False)


@contextmanager
def _bars(console: Console) -> Iterator[_Bars]:
    bars = _Bars(console)
    with bars.progress:
        yield bars


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""
