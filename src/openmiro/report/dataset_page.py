"""The report on a dataset: what is in it, how the rewards are distributed, and how they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from openmiro.core.errors import MissingFileError
from openmiro.core.seeds import permutation
from openmiro.core.types import CaptionKind
from openmiro.data.columns import read_score_values
from openmiro.data.images import decode_image
from openmiro.data.rows import Row
from openmiro.data.store import Dataset
from openmiro.evaluate.steering import ranks
from openmiro.report.blocks import Block, Charts, Gallery, Page, Section, Table, Tile
from openmiro.report.figures import Distribution, correlation_chart, distribution_chart
from openmiro.report.page import write_page
from openmiro.report.pictures import data_uri
from openmiro.rewards.levels import LevelTables

MOST_ROWS = 1_000_000
"""Drawings look at no more rows than these, the dataset's first ones."""
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
        counts: rows by status.
        distributions: of every score column.
        names, correlation: rank correlations [R, R] of the rewards, text rewards with original captions.
        levels: level tables, where they were fitted.
        examples: some pairs.
    """

    counts: Counter[str]
    distributions: list[Distribution]
    names: list[str]
    correlation: NDArray[np.float64]
    levels: LevelTables | None
    examples: list[Example]


def write_dataset_report(dataset_folder: Path, out: Path) -> Path:
    """Writes a page about a dataset and returns its path.

    Raises:
        MissingFileError: no dataset there, or it was not annotated to its end.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    dataset = Dataset.open(dataset_folder)
    content = read_content(dataset)
    page = Page(
        title=f"Dataset {Path(dataset_folder).resolve().name}",
        subtitle="What is in it, how the rewards are distributed, and how they agree.",
        facts=dataset_facts(dataset, content),
        sections=dataset_sections(content),
    )
    return write_page(page, out)


def dataset_facts(dataset: Dataset, content: DatasetContent) -> list[tuple[str, str]]:
    """Label and value pairs for a page's header."""
    total, usable = sum(content.counts.values()), content.counts.get("ok", 0)
    return [
        ("rows", f"{total:,}"),
        ("usable", f"{usable:,}"),
        ("shards", f"{len(dataset.shards):,}"),
        ("rewards", str(len(content.names))),
        ("latents", ", ".join(dataset.codecs()) or "not encoded"),
    ]


def dataset_sections(content: DatasetContent) -> list[Section]:
    """The sections about a dataset, for its own page and for larger ones."""
    sections = [Section("rows", "Every row accounted for", [_accounting(content.counts)])] if content.counts else []
    if content.examples:
        lead = "Some pairs as they are in the dataset, with their raw scores (with the original caption)."
        sections.insert(
            0, Section("pictures", "Dataset pictures", [Gallery([_tile(e) for e in content.examples])], lead)
        )
    if content.distributions:
        sections.append(Section("scores", "Scores and levels", _score_blocks(content), _scores_lead(content)))
    return sections


def read_content(dataset: Dataset, num_examples: int = 18) -> DatasetContent:
    """Reads what a report says about a dataset.

    Raises:
        MissingFileError, DamagedFileError: a file is absent or damaged.
    """
    levels = LevelTables.load(dataset.levels_path) if dataset.levels_path.exists() else None
    counts: Counter[str] = Counter()
    for shard in dataset.shards:
        counts.update(dataset.rows_record(shard).counts)
    names = ordered_rewards(dataset, levels)
    return DatasetContent(
        counts=counts,
        distributions=[d for name in names for d in read_distributions(dataset, name, levels)],
        names=names,
        correlation=rank_correlations([_main_column(dataset, name) for name in names]),
        levels=levels,
        examples=read_examples(dataset, names, num_examples),
    )


def ordered_rewards(dataset: Dataset, levels: LevelTables | None) -> list[str]:
    """The dataset's rewards: first those with levels, in their order."""
    have = dataset.rewards()
    first = [name for name in (levels.names if levels else ()) if name in have]
    return [*first, *(name for name in have if name not in first)]


def read_distributions(dataset: Dataset, name: str, levels: LevelTables | None) -> list[Distribution]:
    """The score columns of one reward that hold any score."""
    spec = dataset.reward_spec(name)
    edges: Sequence[float] = ()
    if levels is not None and name in levels.names:
        edges = [e for e in levels.table(name).edges if e is not None]
    found = []
    for column in map(str, spec.columns):
        values = _column(dataset, name, column)
        values = values[np.isfinite(values)]
        if len(values) or column in ("image", CaptionKind.ORIGINAL):
            found.append(Distribution(name, spec.unit, column, values, edges))
    return found


def rank_correlations(columns: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Spearman's correlations [R, R] of score columns [N] over the rows where both scores are known."""
    num = len(columns)
    matrix = np.eye(num)
    for i in range(num):
        for j in range(i):
            known = np.isfinite(columns[i]) & np.isfinite(columns[j])
            a, b = ranks(columns[i][known]), ranks(columns[j][known])
            constant = len(a) < 2 or a.std() == 0 or b.std() == 0
            matrix[i, j] = matrix[j, i] = np.nan if constant else float(np.corrcoef(a, b)[0, 1])
    return matrix


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


def _main_column(dataset: Dataset, name: str) -> NDArray[np.float32]:
    return _column(dataset, name, dataset.reward_spec(name).column(CaptionKind.ORIGINAL))


def _column(dataset: Dataset, name: str, column: str) -> NDArray[np.float32]:
    parts, num = [np.empty(0, np.float32)], 0
    for shard in dataset.shards:
        parts.append(read_score_values(dataset.scores_path(name, column, shard)))
        num += len(parts[-1])
        if num >= MOST_ROWS:
            break
    return np.concatenate(parts)


def _tile(example: Example) -> Tile:
    caption = example.row.caption or example.row.synthetic or ""
    scores = [f"{name} {value:.3g}" for name, value in example.scores.items()]
    return Tile(data_uri(example.image), caption or example.row.key, caption or "(no caption)", scores)


def _accounting(counts: Counter[str]) -> Block:
    rows = [[status, f"{number:,}"] for status, number in counts.most_common()]
    total = sum(counts.values())
    return Table(["status", "rows"], [*rows, ["rows read", f"{total:,}"]], strong=frozenset([len(rows)]))


def _scores_lead(content: DatasetContent) -> str:
    if content.levels is None:
        return "Raw scores as the rewards gave them. No levels were fitted yet."
    return (
        "Raw scores as the rewards gave them. The short lines below each histogram are the edges of the level bins:"
        " every bin holds equally many pairs, so a level is a rank."
    )


def _score_blocks(content: DatasetContent) -> list[Block]:
    blocks: list[Block] = [Charts([distribution_chart(d) for d in content.distributions])]
    if len(content.names) > 1:
        blocks.append(Charts([correlation_chart(content.names, content.correlation)]))
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
