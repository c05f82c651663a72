"""`openmiro quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openmiro.cli.options import SeedOption


def quickstart(
    minutes: Annotated[float, typer.Option(min=1, help="Wall-clock time for everything, on two cores.")] = 10,
    out: Annotated[Path, typer.Option(help="Where data, runs and the report go.")] = Path("runs/quickstart"),
    seed: SeedOption = 0,
) -> None:
    """Run the whole pipeline on the lab, a small procedural world, and write a report to open.

    Makes a dataset, annotates it with seven rewards, fits levels, encodes, trains a baseline and a MIRO model on the
    same budget, steers and compares them. Killed and run again, it goes on where it was.

    Example: openmiro quickstart --minutes 30
    """
    from openmiro.quickstart import run_quickstart

    run_quickstart(out=out, minutes=minutes, seed=seed)
