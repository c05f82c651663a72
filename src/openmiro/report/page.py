"""A page as one HTML file that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from openmiro.core.artifact import write_text
from openmiro.core.registry import require
from openmiro.report.blocks import Page

TEMPLATES = Path(__file__).parent / "templates"


def render_page(page: Page) -> str:
    """The page as HTML; every text in it is escaped.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = require("jinja2", "writing a report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(page=page, style=style, version=version("openmiro"))


def write_page(page: Page, out: Path) -> Path:
    """Writes the page to `out` atomically and returns the path."""
    out = Path(out)
    write_text(out, render_page(page))
    return out
