"""Where the time goes: seconds of work by stage, kept over interruptions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from openmiro.core.artifact import read_json, write_json

TICK_SECONDS = 10.0
"""Between signs of life where there is no terminal."""


class Clock:
    """Measures stages and adds them up in a file, so that work done before an interruption counts."""

    def __init__(self, path: Path, key: str, console: Console) -> None:
        self.path, self.key, self.console = path, key, console
        self.begun = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since this command began."""
        return time.monotonic() - self.begun

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order in which stages first ran."""
        return dict(self._all().get(self.key, []))

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    @contextmanager
    def stage(self, name: str, ticking: bool = True) -> Iterator[None]:
        """Announces a stage and adds its seconds, also where it is interrupted.

        Args:
            name: of the stage.
            ticking: say now and then that it goes on, where there is no terminal to show a bar on.
        """
        self.console.print(f"[bold]{name}[/bold] ...", highlight=False)
        begun = time.monotonic()
        ended = threading.Event()
        if ticking and not self.console.is_terminal:
            threading.Thread(target=self._tick, args=(ended, begun), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self._add(name, time.monotonic() - begun)
        self.console.print(f"  done in {time.monotonic() - begun:.0f} s", style="dim", highlight=False)

    def _tick(self, ended: threading.Event, begun: float) -> None:
        while not ended.wait(TICK_SECONDS):
            self.console.print(f"  {time.monotonic() - begun:.0f} s", style="dim", highlight=False)

    def _add(self, name: str, seconds: float) -> None:
        table = self.seconds
        table[name] = round(table.get(name, 0.0) + seconds, 2)
        write_json(self.path, {**self._all(), self.key: [list(item) for item in table.items()]})

    def _all(self) -> dict[str, list[tuple[str, float]]]:
        return read_json(self.path) if self.path.exists() else {}
