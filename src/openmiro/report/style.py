"""How figures look: a palette that color-blind people can tell apart, and SVG that follows the page's mode.

The colors are Okabe and Ito's (2008). On a page every figure color becomes a CSS variable with the color as its
fallback, so one drawing serves both modes; as a file of its own a figure keeps its light colors on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from openmiro.core.registry import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2430"
MUTED = "#667085"
GRID = "#e1e5eb"
BASELINE = "#d55e00"
MIRO = "#0072b2"
PLAIN = "#009e73"
FOURTH = "#cc79a7"
FIFTH = "#e69f00"
SIXTH = "#7a6ff0"

SERIES = (MIRO, BASELINE, PLAIN, FOURTH, FIFTH, SIXTH)
"""Colors of series that have no meaning of their own, in order."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    MIRO: "--c1",
    BASELINE: "--c2",
    PLAIN: "--c3",
    FOURTH: "--c4",
    FIFTH: "--c5",
    SIXTH: "--c6",
}
_COLOR = re.compile("|".join(_VARIABLES))
_SVG_START = re.compile(r"<svg\b[^>]*?\bviewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_IDENTIFIER = re.compile(r"(\bid=\"|url\(#|xlink:href=\"#|href=\"#)")


def _settings() -> dict[str, Any]:
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8.5,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.7,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "text.parse_math": False,  # names come from data; a dollar sign is a dollar sign
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.6,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "openmiro",
        "savefig.dpi": 144,
    }


@contextmanager
def canvas(width: float, height: float, num_rows: int = 1, num_columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """A figure (inches) and its axes in the common style, drawn without a display and closed at the end.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", "drawing figures")
    figures = require("matplotlib.figure", "drawing figures")
    with matplotlib.rc_context(_settings()):
        figure = figures.Figure(figsize=(width, height))
        yield figure, figure.subplots(num_rows, num_columns)


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an inline SVG element: it scales with the page and takes its colors from the page.

    Args:
        figure: the drawing.
        name: prefix of the identifiers inside, unique on the page.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = _METADATA.sub("", buffer.getvalue())
    start = _SVG_START.search(text)
    if start is None:  # matplotlib always writes one
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    width = float(start.group(1).split()[2])
    body = _IDENTIFIER.sub(lambda m: m.group(1) + name + "-", text[start.end() :])
    body = _COLOR.sub(lambda m: f"var({_VARIABLES[m.group(0)]}, {m.group(0)})", body)
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' viewBox="{start.group(1)}" style="max-width:{width * 1.34:.0f}px" aria-hidden="true">'
    )
    return opening + body.strip()
