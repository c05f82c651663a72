"""Engines schedule tasks; they never change what a task does. The local one runs them in processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import torch

from openmiro.annotate.tasks import Task, TaskReport
from openmiro.annotate.worker import ShardWorker
from openmiro.core.errors import DataError
from openmiro.core.progress import Advance, progress


class Engine(Protocol):
    """Runs tasks; reports come in the order of the tasks."""

    def run(self, tasks: Sequence[Task], description: str, num_rows: int | None = None) -> list[TaskReport]:
        """Runs every task once; the first error stops the others after what they are at."""
        ...


class LocalEngine:
    """Tasks in `num_workers` processes (spawned, one thread each), or in this process with 0.

    The bytes written do not depend on the number of workers. Ctrl-C and SIGTERM stop it; what was committed is kept.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = available_cores() if num_workers is None else num_workers

    def run(self, tasks: Sequence[Task], description: str, num_rows: int | None = None) -> list[TaskReport]:
        """Runs every task.

        Raises:
            DataError: a worker process died, or a task failed.
            KeyboardInterrupt: stopped by Ctrl-C or SIGTERM.
        """
        num_workers = min(self.num_workers, len(tasks))
        with sigterm_as_interrupt(), progress(description, num_rows, "rows") as advance:
            if num_workers <= 1:
                return _run_here(tasks, advance)
            return _run_in_processes(tasks, num_workers, advance)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """One PyTorch thread, so that sums are added in one order on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM stop the work as Ctrl-C does. Does nothing outside the main thread."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_here(tasks: Sequence[Task], advance: Advance) -> list[TaskReport]:
    worker = ShardWorker()
    reports = []
    with single_thread():
        for task in tasks:
            reports.append(worker.run(task))
            advance(reports[-1].num_rows, task.shard)
    return reports


def _run_in_processes(tasks: Sequence[Task], num_workers: int, advance: Advance) -> list[TaskReport]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        futures: list[Future[TaskReport]] = [pool.submit(_run_in_worker, task) for task in tasks]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                advance(future.result().num_rows, future.result().shard)
        pool.shutdown()
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise DataError(
            "a worker process died, perhaps for lack of memory. What was committed is kept: run the same command again,"
            " with fewer --workers if it happens again."
        ) from None
    except BaseException:
        _stop(pool)
        raise


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


_worker: ShardWorker | None = None


def _start_worker() -> None:
    global _worker
    # Ctrl-C reaches the whole process group; the parent decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(1))
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _worker = ShardWorker()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(task: Task) -> TaskReport:
    assert _worker is not None
    return _worker.run(task)
