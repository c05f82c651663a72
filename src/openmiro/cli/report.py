"""`openmiro report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    path: Annotated[Path, typer.Argument(help="A dataset, a run, or a quickstart folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page. Default: PATH/report.html.")] = None,
) -> None:
    """Write one self-contained HTML page about a dataset, a run or a quickstart; it opens offline.

    Example: openmiro report runs/lab-miro
    """
    from openmiro.report import write_report

    typer.echo(write_report(path, out or path / "report.html"))
