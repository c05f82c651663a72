"""The report on a training run: losses, samples, speed and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openmiro.core.artifact import read_json
from openmiro.core.errors import MissingFileError
from openmiro.core.log import METRICS_FILE, TIMING_FILE, read_metrics
from openmiro.report import style
from openmiro.report.blocks import Block, Charts, Code, Gallery, Page, Section, Text, Tile
from openmiro.report.figures import Curve, line_chart, loss_chart
from openmiro.report.page import write_page
from openmiro.report.pictures import data_uri

CONFIG_FILE = "config.yaml"
_MOST_GRIDS = 4
_GRID_WIDTH = 264


def write_run_report(run_folder: Path, out: Path) -> Path:
    """Writes a page about a training run, finished or not, and returns its path.

    Raises:
        MissingFileError: the folder is not a run.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    run = Path(run_folder)
    if not (run / CONFIG_FILE).exists():
        raise MissingFileError(f"{run} is not a run folder: it has no {CONFIG_FILE}. Make one with: openmiro train")
    lines = read_metrics(run / METRICS_FILE)
    page = Page(
        title=f"Run {run.resolve().name}",
        subtitle="How the training went.",
        facts=_facts(run, lines),
        sections=[s for s in (_loss(lines), _samples(run), _rewards(lines), _settings(run)) if s is not None],
    )
    return write_page(page, out)


def loss_curve(run: Path, name: str, color: str = style.MIRO) -> Curve:
    """The training loss of a run over pictures seen; empty where nothing was logged yet."""
    return _curve(read_metrics(run / METRICS_FILE), "train/loss", name, color)


def _curve(lines: list[dict[str, Any]], key: str, name: str, color: str) -> Curve:
    points = [(line["images"], line[key]) for line in lines if key in line]
    return Curve(name, [float(x) for x, _ in points], [float(y) for _, y in points], color)


def _facts(run: Path, lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    facts = []
    if lines:
        facts += [("pictures seen", f"{lines[-1]['images']:,}"), ("steps", f"{lines[-1]['step']:,}")]
    rates = [t["train/images_per_second"] for t in read_metrics(run / TIMING_FILE) if "train/images_per_second" in t]
    if rates:
        facts.append(("pictures per second", f"{float(np.median(rates)):,.0f}"))
    environment = run / "env.json"
    if environment.exists():
        values = read_json(environment)
        facts += [(k, str(values[k])) for k in ("device", "precision", "threads") if k in values]
    return facts


def _loss(lines: list[dict[str, Any]]) -> Section:
    curve = _curve(lines, "train/loss", "loss", style.MIRO)
    if not curve.y:
        return Section("loss", "Loss", [Text("Nothing was logged yet.", muted=True)])
    return Section("loss", "Loss", [Charts([loss_chart([curve])])])


def _samples(run: Path) -> Section | None:
    grids = sorted((run / "samples").glob("step-*.png"))
    if not grids:
        return None
    chosen = [grids[i] for i in sorted({round(x) for x in np.linspace(0, len(grids) - 1, _MOST_GRIDS)})]
    tiles = []
    for path in chosen:
        with Image.open(path) as image:
            uri = data_uri(image.convert("RGB"), _GRID_WIDTH)
        tiles.append(Tile(uri, f"samples at {path.stem}", path.stem))
    lead = "Drawn from the averaged weights with the same prompts and noise every time."
    return Section("samples", "Samples during training", [Gallery(tiles, large=True)], lead)


def _rewards(lines: list[dict[str, Any]]) -> Section | None:
    keys = sorted({key for line in lines for key in line if key.startswith("val/")})
    curves = [_curve(lines, key, key.removeprefix("val/reward/").removesuffix("/mean"), style.MIRO) for key in keys]
    if not curves:
        return None
    return Section("rewards", "Rewards of the samples", [Charts([line_chart(c, "pictures seen") for c in curves])])


def _settings(run: Path) -> Section:
    blocks: list[Block] = [Code((run / CONFIG_FILE).read_text(encoding="utf-8"), CONFIG_FILE)]
    return Section("settings", "Settings", blocks)
