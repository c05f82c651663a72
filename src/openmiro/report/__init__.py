"""Reports: one self-contained HTML page about a dataset, a run, or a quickstart. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path

from openmiro.core.artifact import write_text
from openmiro.core.errors import MissingFileError

QUICKSTART_SUMMARY = "summary.json"
"""Marks the folder of a finished quickstart."""

__all__ = ["QUICKSTART_SUMMARY", "write_report"]


def write_report(path: Path, out: Path | None = None) -> Path:
    """Writes the page about whatever lies at `path` and returns the page's path.

    Args:
        path: a dataset, a run, or the folder of a finished quickstart.
        out: the page; default `path`/report.html.

    Raises:
        MissingFileError: nothing to report on there.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    from openmiro.report.dataset_page import write_dataset_report
    from openmiro.report.run_page import CONFIG_FILE, write_run_report

    path = Path(path)
    target = Path(out) if out is not None else path / "report.html"
    if (path / "dataset.json").exists():
        return write_dataset_report(path, target)
    if (path / CONFIG_FILE).exists():
        return write_run_report(path, target)
    if (path / QUICKSTART_SUMMARY).exists() and (path / "report.html").exists():
        return _again(path / "report.html", target)
    what = "does not exist" if not path.exists() else "is neither a dataset, nor a run, nor a finished quickstart"
    raise MissingFileError(
        f"{path} {what}. Give a dataset folder (openmiro annotate makes one) or a run folder (openmiro train)."
    )


def _again(page: Path, out: Path) -> Path:
    """A quickstart's page was written at its end; elsewhere it is wanted as a copy."""
    if page.resolve() != out.resolve():
        write_text(out, page.read_text(encoding="utf-8"))
    return out
