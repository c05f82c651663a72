"""report.json: what became of every row and every score, put together from the records of committed files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from openmiro.core.artifact import read_json, read_record, write_json
from openmiro.core.config import Config
from openmiro.core.errors import ProvenanceError
from openmiro.data.columns import read_row_columns, read_rows_notes
from openmiro.data.status import RowStatus, accounting
from openmiro.data.store import Dataset

Counts = dict[str, int]


class DatasetReport(Config):
    """What became of every row of a dataset.

    Attributes:
        num_rows: rows in.
        rows: by status; their sum is `num_rows`.
        flags: repairs by kind; a row may have several.
        num_synthetic: usable rows with a synthetic caption.
        notes: what is wrong with a shard as a whole, by shard.
        scores: "reward/column" -> counts by score status; each sums to `num_rows`.
    """

    num_rows: int
    rows: Counts
    flags: Counts
    num_synthetic: int
    notes: dict[str, list[str]]
    scores: dict[str, Counts]

    @property
    def num_ok(self) -> int:
        """Usable rows."""
        return self.rows.get(RowStatus.OK, 0)

    @property
    def bad_share(self) -> float:
        """Share of rows that cannot be used."""
        return 1 - self.num_ok / self.num_rows if self.num_rows else 0.0

    def lines(self) -> list[str]:
        """The accounting in words, one statement a line."""
        lines = [accounting(self.rows)]
        if self.flags:
            lines.append("repaired: " + ", ".join(f"{n} {flag}" for flag, n in sorted(self.flags.items())))
        if self.num_synthetic:
            lines.append(f"{self.num_synthetic} usable rows have a synthetic caption")
        lines.extend(f"shard {shard}: {note}" for shard, notes in sorted(self.notes.items()) for note in notes)
        alike: dict[str, list[str]] = {}
        for name, counts in self.scores.items():
            alike.setdefault(accounting(counts), []).append(name.removesuffix("/image"))
        return lines + [f"scores of {', '.join(names)}: {counted}" for counted, names in alike.items()]


def make_report(dataset: Dataset) -> DatasetReport:
    """Adds up the records of all shards.

    Raises:
        MissingFileError: a shard was not annotated to its end.
        ProvenanceError: a score column has another number of rows than its shard.
    """
    rows, flags, synthetic = Counter(), Counter(), 0
    notes: dict[str, list[str]] = {}
    scores: dict[str, Counter[str]] = {}
    for shard in dataset.shards:
        record = dataset.rows_record(shard)
        rows.update(record.counts)
        path = dataset.rows_path(shard)
        table = read_row_columns(path, ["status", "flags", "synthetic_caption", "short_synthetic_caption"])
        flags.update(flag for text in table.column("flags").to_pylist() for flag in text.split())
        texts = zip(*(table.column(name).to_pylist() for name in table.column_names if name != "flags"))
        synthetic += sum(status == RowStatus.OK and bool(long or short) for status, long, short in texts)
        if found := read_rows_notes(path):
            notes[shard] = list(found)
        for reward in dataset.rewards():
            _add_scores(scores, dataset, reward, shard, record.num_rows)
    return DatasetReport(
        num_rows=sum(rows.values()),
        rows=dict(sorted(rows.items())),
        flags=dict(sorted(flags.items())),
        num_synthetic=synthetic,
        notes=notes,
        scores={name: dict(sorted(counts.items())) for name, counts in sorted(scores.items())},
    )


def _add_scores(scores: dict[str, Counter[str]], dataset: Dataset, reward: str, shard: str, num_rows: int) -> None:
    for column in sorted(p.name for p in (dataset.folder / "scores" / reward).iterdir() if p.is_dir()):
        path: Path = dataset.scores_path(reward, column, shard)
        record = read_record(path)
        if record is None:
            continue
        if record.num_rows != num_rows:
            raise ProvenanceError(
                f"{path} has {record.num_rows} rows and its shard {num_rows}. Delete it and run again."
            )
        scores.setdefault(f"{reward}/{column}", Counter()).update(record.counts)


def write_report(dataset: Dataset) -> DatasetReport:
    """`make_report`, stored as report.json."""
    report = make_report(dataset)
    write_json(dataset.report_path, report.dump())
    return report


def read_report(dataset: Dataset) -> DatasetReport:
    """What `write_report` stored."""
    return DatasetReport.parse(read_json(dataset.report_path), str(dataset.report_path))
