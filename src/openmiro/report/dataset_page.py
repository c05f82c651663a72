"""The report on a dataset: what is in it, how the rewards are distributed, and how they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.Image import Image

from openmiro.core.errors import MissingFileError
from openmiro.core.seeds import permutation
from openmiro.core.types import CaptionKind
from openmiro.data.columns import read_score_values
from openmiro.data.images import decode_image
from openmiro.data.rows import Row
from openmiro.data.stats import DatasetStats, dataset_stats
from openmiro.data.store import Dataset
from openmiro.report.blocks import Block, Charts, Gallery, Page, Section, Table, Text, Tile
from openmiro.report.figures import correlation_chart, distribution_chart, level_edges
from openmiro.report.page import write_page
from openmiro.report.pictures import data_uri
from openmiro.rewards.levels import LevelTables

_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Example:
    """One pair of the dataset with its scores by name."""

    image: Image
    row: Row
    scores: dict[str, float]


@dataclass(frozen=True)
class DatasetContent:
    """What a report says about a dataset.

    Attributes:
        stats: its numbers.
        levels: level tables, where they were fitted.
        examples: some pairs.
    """

    stats: DatasetStats
    levels: LevelTables | None
    examples: list[Example]

    @property
    def names(self) -> list[str]:
        """Rewards: first those with levels, in their order."""
        have = self.stats.correlation.names
        first = [name for name in (self.levels.names if self.levels else ()) if name in have]
        return [*first, *(name for name in have if name not in first)]


def write_dataset_report(dataset_folder: Path, out: Path) -> Path:
    """Writes a page about a dataset and returns its path.

    Raises:
        MissingFileError: no dataset there, or it was not annotated to its end.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    dataset = Dataset.open(dataset_folder)
    content = read_content(dataset)
    name = Path(dataset_folder).resolve().name
    page = Page(
        title="Dataset" if name == "dataset" else f"Dataset {name}",
        subtitle="What is in it, how the rewards are distributed, and how they agree.",
        facts=dataset_facts(dataset, content),
        sections=dataset_sections(content),
    )
    return write_page(page, out)


def dataset_facts(dataset: Dataset, content: DatasetContent) -> list[tuple[str, str]]:
    """Label and value pairs for a page's header."""
    report = content.stats.report
    return [
        ("rows", f"{report.num_rows:,}"),
        ("usable", f"{report.num_ok:,}"),
        ("shards", f"{len(dataset.shards):,}"),
        ("rewards", str(len(content.names))),
        ("latents", ", ".join(dataset.codecs()) or "not encoded"),
    ]


def dataset_sections(content: DatasetContent) -> list[Section]:
    """The sections about a dataset, for its own page and for larger ones."""
    sections = []
    if content.examples:
        lead = "Some pairs as they are in the dataset, with their raw scores (with the original caption)."
        gallery = Gallery([_tile(e) for e in content.examples])
        sections.append(Section("pictures", "Dataset pictures", [gallery], lead))
    if content.names:
        sections.append(Section("scores", "Scores and levels", _score_blocks(content), _scores_lead(content)))
    sections.append(Section("rows", "Every row accounted for", _accounting(content.stats)))
    return sections


def read_content(dataset: Dataset, num_examples: int = 18) -> DatasetContent:
    """Reads what a report says about a dataset.

    Raises:
        MissingFileError, DamagedFileError: a file is absent or damaged.
    """
    levels = LevelTables.load(dataset.levels_path) if dataset.levels_path.exists() else None
    content = DatasetContent(dataset_stats(dataset), levels, [])
    return replace(content, examples=read_examples(dataset, content.names, num_examples))


def read_examples(dataset: Dataset, names: Sequence[str], num: int) -> list[Example]:
    """Usable pairs from the first shard, evenly mixed; none where the source is gone, since a report can do without."""
    shard = dataset.shards[0]
    rows = dataset.rows(shard).rows
    usable = [i for i, row in enumerate(rows) if row.is_ok and row.location is not None]
    chosen = [usable[i] for i in permutation(0, "report examples", 0, len(usable))[:num]]
    scores = {name: read_score_values(_main_path(dataset, name, shard)) for name in names}
    try:
        source = dataset.source().shard(shard)
    except MissingFileError:
        return []
    found = []
    for i in chosen:
        location = rows[i].location
        if location is not None:
            image = decode_image(source.read_image(location), dataset.limits).image
            found.append(Example(image, rows[i], {n: float(v[i]) for n, v in scores.items() if np.isfinite(v[i])}))
    return found


def _main_path(dataset: Dataset, name: str, shard: str) -> Path:
    return dataset.scores_path(name, dataset.reward_spec(name).column(CaptionKind.ORIGINAL), shard)


def _tile(example: Example) -> Tile:
    caption = example.row.caption or example.row.synthetic or ""
    scores = [f"{name} {value:.3g}" for name, value in example.scores.items()]
    return Tile(data_uri(example.image), caption or example.row.key, caption or "(no caption)", scores)


def _accounting(stats: DatasetStats) -> list[Block]:
    return [Text(line) for line in stats.accounting().splitlines()]


def _scores_lead(content: DatasetContent) -> str:
    if content.levels is None:
        return "Raw scores as the rewards gave them. No levels were fitted yet."
    return (
        "Raw scores as the rewards gave them. The short lines below each histogram are the edges of the level bins:"
        " every bin holds equally many pairs, so a level is a rank."
    )


def _score_blocks(content: DatasetContent) -> list[Block]:
    edges = level_edges(content.stats.dataset)
    order = {name: k for k, name in enumerate(content.names)}
    shown = sorted(content.stats.rewards, key=lambda s: order[s.reward])
    shown = [s for s in shown if s.num_known or s.column != CaptionKind.SYNTHETIC]
    blocks: list[Block] = [Charts([distribution_chart(s, edges.get(s.reward, ())) for s in shown])]
    if len(content.names) > 1:
        found = content.stats.correlation
        at = [found.names.index(name) for name in content.names]
        blocks.append(Charts([correlation_chart(content.names, found.matrix[np.ix_(at, at)])]))
    if content.levels is not None:
        blocks.append(_level_table(content.levels))
    return blocks


def _level_table(levels: LevelTables) -> Block:
    rows = []
    for table in levels.tables:
        raws = [f"{table.inverse(a):.4g}" for a in _LEVELS] if table.num_values else ["-"] * len(_LEVELS)
        rows.append([table.spec.name, table.spec.unit, f"{table.num_values:,}", *raws])
    headers = ["reward", "unit", "scores", *(f"level {a:g}" for a in _LEVELS)]
    return Table(headers, rows, "The raw score that stands for a level")
