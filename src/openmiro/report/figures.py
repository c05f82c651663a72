"""The drawings of every report, from typed numbers. Each returns a `Chart` with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmiro.core.artifact import atomic_path
from openmiro.data.stats import DatasetStats, RewardStats
from openmiro.data.store import Dataset
from openmiro.evaluate.intervals import Estimate
from openmiro.report import style
from openmiro.report.blocks import Chart
from openmiro.rewards.levels import LevelTables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """A line with its own x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = style.MIRO


@dataclass(frozen=True)
class IntervalSeries:
    """One estimate per group, such as GenEval by tag of one model."""

    name: str
    intervals: Sequence[Estimate]
    color: str


def distribution_chart(found: RewardStats, edges: Sequence[float] = ()) -> Chart:
    """A histogram of raw scores with the level bins' edges as ticks below it."""
    with style.canvas(3.3, 2.15) as (figure, axes):
        _draw_distribution(axes, found, edges)
        svg = style.to_svg(figure, f"hist-{slug(found.reward)}-{found.column}")
    if not found.num_known:
        return Chart(svg, f"No scores of {found.reward} are known.", "no known scores")
    words = f"{found.num_known:,} scores, median {found.median:.3g}, 80 % between {found.p10:.3g} and {found.p90:.3g}"
    return Chart(svg, f"Histogram of {found.reward}: {words}.", words)


def _draw_distribution(axes: Any, found: RewardStats, edges: Sequence[float]) -> None:
    suffix = "" if found.column == "image" else f" ({found.column} captions)"
    axes.set_title(found.reward + suffix)
    axes.set_xlabel(found.unit)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    if not found.num_known:
        axes.text(0.5, 0.5, "no known scores", ha="center", transform=axes.transAxes)
        return
    axes.stairs(found.bin_counts, found.bin_edges, fill=True, color=style.MIRO, alpha=0.85)
    top = found.bin_counts.max()
    axes.set_ylim(-0.13 * top, 1.05 * top)
    inside = [e for e in edges if found.bin_edges[0] <= e <= found.bin_edges[-1]]
    if inside:
        axes.vlines(inside, -0.11 * top, -0.02 * top, color=style.BASELINE, linewidth=0.55)


def correlation_chart(names: Sequence[str], matrix: NDArray[np.float64]) -> Chart:
    """A heat map of rank correlations with the numbers in its cells."""
    side = 1.7 + 0.48 * len(names)
    with style.canvas(side, side * 0.86) as (figure, axes):
        _draw_correlation(axes, names, matrix)
        svg = style.to_svg(figure, "correlation")
    pairs = [(abs(matrix[i, j]), i, j) for i in range(len(names)) for j in range(i) if np.isfinite(matrix[i, j])]
    strongest = max(pairs, default=None)
    alt = "Heat map of the rank correlations between rewards."
    if strongest is not None:
        _, i, j = strongest
        alt += f" Strongest: {names[i]} and {names[j]}, {matrix[i, j]:+.2f}."
    return Chart(svg, alt, "Spearman rank correlation over the rows where both scores are known.")


def _draw_correlation(axes: Any, names: Sequence[str], matrix: NDArray[np.float64]) -> None:
    num = len(names)
    axes.pcolormesh(np.ma.masked_invalid(matrix), cmap="PuOr", vmin=-1, vmax=1, edgecolor="white", linewidth=1.0)
    for i in range(num):
        for j in range(num):
            value = matrix[i, j]
            color = "#ffffff" if abs(value) > 0.62 else "#111111"
            axes.text(
                j + 0.5,
                i + 0.5,
                f"{value:.2f}" if np.isfinite(value) else "-",
                ha="center",
                va="center",
                color=color if np.isfinite(value) else style.MUTED,
                fontsize=7.5,
            )
    axes.set_xticks(np.arange(num) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(num) + 0.5, names)
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0, labelcolor=style.INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def loss_chart(curves: Sequence[Curve]) -> Chart:
    """Training losses over pictures seen: faint as they came, strong as a running mean."""
    with style.canvas(6.4, 2.7) as (figure, axes):
        for curve in curves:
            x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
            axes.plot(x, y, color=curve.color, linewidth=0.5, alpha=0.25)
            axes.plot(x, smoothed(y), color=curve.color, label=curve.name)
        _limit_to_settled(axes, curves)
        axes.set_xlabel("pictures seen")
        axes.set_ylabel("flow-matching loss")
        axes.xaxis.set_major_formatter(_thousands)
        axes.legend(loc="upper right")
        svg = style.to_svg(figure, "loss")
    ends = "; ".join(f"{c.name} ends at {smoothed(np.asarray(c.y, float))[-1]:.3f}" for c in curves if len(c.y))
    return Chart(
        svg,
        f"Training loss over pictures seen. {ends}.",
        f"Strong: running mean; faint: single steps. {ends}.",
        wide=True,
    )


def _limit_to_settled(axes: Any, curves: Sequence[Curve]) -> None:
    # The first steps are several times higher and would flatten everything after them.
    settled = [np.asarray(c.y, float)[len(c.y) // 20 :] for c in curves if len(c.y) > 20]
    if settled:
        together = np.concatenate(settled)
        low, high = float(together.min()), float(np.quantile(together, 0.995))
        margin = 0.08 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + 3 * margin)


def line_chart(curve: Curve, x_label: str) -> Chart:
    """One small line."""
    with style.canvas(3.3, 2.0) as (figure, axes):
        axes.plot(curve.x, curve.y, color=curve.color, marker="o", markersize=2.5)
        axes.set_title(curve.name)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_formatter(_thousands)
        svg = style.to_svg(figure, f"line-{slug(curve.name)}")
    ends = f"from {curve.y[0]:.3g} to {curve.y[-1]:.3g}" if len(curve.y) else "no values"
    return Chart(svg, f"{curve.name} over {x_label}: {ends}.")


def _thousands(x: float, _: int) -> str:
    return f"{x / 1000:g}k" if x else "0"


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centered running mean over about a fortieth of the curve, shorter at its ends."""
    half = max(1, len(values) // 80)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def interval_chart(title: str, groups: Sequence[str], series: Sequence[IntervalSeries], name: str, unit: str) -> Chart:
    """Estimates as dots with their intervals, one row per group and one color per series."""
    height = 0.75 + len(groups) * (0.13 + 0.13 * len(series)) + 0.17 * len(series)
    with style.canvas(7.2, height) as (figure, axes):
        for k, item in enumerate(series):
            offset = (k - (len(series) - 1) / 2) * 0.72 / len(series)
            means = np.array([i.value for i in item.intervals])
            spread = np.array([[i.value - i.low, i.high - i.value] for i in item.intervals]).T
            axes.errorbar(
                means,
                np.arange(len(groups)) + offset,
                xerr=np.maximum(spread, 0),
                fmt="o",
                markersize=3.6,
                color=item.color,
                elinewidth=1.5,
                label=item.name,
            )
        axes.set_yticks(range(len(groups)), groups)
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.set_ylim(len(groups) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.set_title(title)
        axes.set_xlabel(unit)
        figure.legend(loc="outside lower center", ncols=min(3, len(series)), handletextpad=0.3, columnspacing=1.2)
        svg = style.to_svg(figure, name)
    best = "; ".join(
        f"{group}: " + ", ".join(f"{s.name} {s.intervals[g].value:.3g}" for s in series)
        for g, group in enumerate(groups)
    )
    return Chart(svg, f"{title}. {best}.", wide=True)


def strip_chart(
    reward: str, unit: str, asked: Sequence[float], wanted: Sequence[float], obtained: Sequence[Estimate], caption: str
) -> Chart:
    """What was asked of one reward against what was obtained, in raw units.

    Args:
        reward, unit: names.
        asked: target levels.
        wanted: the raw score behind each target level.
        obtained: mean raw score of the pictures drawn with each target.
        caption: below the chart.
    """
    means = [o.value for o in obtained]
    with style.canvas(3.1, 2.2) as (figure, axes):
        axes.plot(asked, wanted, color=style.MUTED, linestyle=(0, (4, 3)), linewidth=1.1, label="asked")
        axes.fill_between(asked, [o.low for o in obtained], [o.high for o in obtained], color=style.MIRO, alpha=0.18)
        axes.plot(asked, means, color=style.MIRO, marker="o", markersize=4, label="obtained")
        axes.set_xticks(list(asked))
        axes.set_title(reward)
        axes.set_xlabel("target level")
        axes.set_ylabel(unit)
        axes.legend(loc="best")
        svg = style.to_svg(figure, f"strip-{slug(reward)}")
    words = ", ".join(f"{a:g}: {m:.3g}" for a, m in zip(asked, means, strict=True))
    return Chart(svg, f"Mean {reward} obtained at each target level. {words}.", caption)


def time_chart(seconds: Mapping[str, float]) -> Chart:
    """Where the time went: one stacked bar."""
    total = sum(seconds.values())
    with style.canvas(7.2, 1.5) as (figure, axes):
        left = 0.0
        for k, (stage, value) in enumerate(seconds.items()):
            color = style.SERIES[k % len(style.SERIES)]
            axes.barh(0, value, left=left, color=color, height=0.62, label=f"{stage} {value:.0f} s")
            left += value
        axes.set_yticks([])
        axes.set_xlim(0, max(total, 1e-9))
        axes.set_xlabel("seconds")
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=4, handlelength=1.0, columnspacing=1.3)
        svg = style.to_svg(figure, "time")
    words = ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items())
    return Chart(svg, f"Time by stage: {words}; {total:.0f} s in all.", wide=True)


def rows_chart(title: str, unit: str, names: Sequence[str], found: Sequence[Estimate], colors: Sequence[str]) -> Chart:
    """One estimate per named row, as dots with their 95 % intervals."""
    with style.canvas(3.4, 0.72 + 0.25 * len(names)) as (figure, axes):
        for row, (estimate, color) in enumerate(zip(found, colors, strict=True)):
            axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot([estimate.value], [row], "o", markersize=5, color=color)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_title(title)
        axes.set_xlabel(unit)
        svg = style.to_svg(figure, f"rows-{slug(title)}")
    words = "; ".join(f"{n} {e}" for n, e in zip(names, found, strict=True))
    return Chart(svg, f"{title} with 95 % intervals. {words}.")


def draw_dataset_stats(stats: DatasetStats, out_folder: Path) -> list[Path]:
    """Writes one SVG histogram per score column and `correlation.svg`; returns the files.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    edges = level_edges(stats.dataset)
    written = []
    for found in stats.rewards:
        with style.canvas(4.4, 2.8) as (figure, axes):
            _draw_distribution(axes, found, edges.get(found.reward, ()))
            written.append(_save(figure, Path(out_folder) / f"{slug(found.reward)}-{found.column}.svg"))
    names = stats.correlation.names
    if len(names) > 1:
        side = 1.9 + 0.5 * len(names)
        with style.canvas(side, side * 0.86) as (figure, axes):
            _draw_correlation(axes, names, stats.correlation.matrix)
            written.append(_save(figure, Path(out_folder) / "correlation.svg"))
    return written


def level_edges(dataset: Path) -> dict[str, list[float]]:
    """The level bins' edges by reward; none where no levels were fitted."""
    path = Dataset.open(dataset).levels_path
    if not path.exists():
        return {}
    return {t.spec.name: [e for e in t.edges if e is not None] for t in LevelTables.load(path).tables}


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return path


def slug(name: str) -> str:
    """Letters, digits, dashes and underscores only: names come from data and must not become paths or markup."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
