"""Comparing every file of a dataset with what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openmiro.core.artifact import check, read_json, read_record
from openmiro.core.errors import MissingFileError, OpenMiroError
from openmiro.data.accounting import make_report, read_report
from openmiro.data.models import damaged_model_files
from openmiro.data.store import Dataset

_ENCODE = "Run: openmiro encode DATASET"


@dataclass(frozen=True)
class Finding:
    """One file that is not as it was written.

    Attributes:
        path: the file.
        problem: what is wrong and what to do.
    """

    path: Path
    problem: str

    def __str__(self) -> str:
        return self.problem if str(self.path) in self.problem else f"{self.path}: {self.problem}"


def verify(dataset: Dataset | Path | str) -> list[Finding]:
    """Reads every byte of a dataset and names what is damaged, missing, unfinished or made from other rows.

    Raises:
        MissingFileError: there is no dataset.
        DamagedFileError: its header is damaged, so that nothing else can be found.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    findings = [f for path in _expected(dataset) if (f := _check(path)) is not None]
    findings += [f for path in _expected(dataset) if (f := _check_parent(dataset, path)) is not None]
    findings += _strangers(dataset)
    findings += _models(dataset)
    findings += _levels(dataset)
    if not findings:
        findings += _report(dataset)
    return findings


def _expected(dataset: Dataset) -> Iterator[Path]:
    """Every file that a stage that was begun should have."""
    columns = [dataset.folder / "scores" / reward for reward in dataset.rewards()]
    columns += [dataset.folder / "text" / encoder for encoder in dataset.encoders()]
    for shard in dataset.shards:
        yield dataset.rows_path(shard)
        for codec in dataset.codecs():
            yield dataset.latents_path(codec, shard)
        for column in columns:
            suffix = "parquet" if column.parent.name == "scores" else "arrow"
            for folder in sorted(p for p in column.iterdir() if p.is_dir() and p.name != "encoder"):
                yield folder / f"{shard}.{suffix}"


def _check(path: Path) -> Finding | None:
    try:
        check(path)
    except OpenMiroError as error:
        return Finding(path, str(error))
    return None


def _check_parent(dataset: Dataset, path: Path) -> Finding | None:
    try:
        record, rows = read_record(path), read_record(dataset.rows_path(path.stem))
    except OpenMiroError:
        return None  # named by the check before
    if record is None or rows is None or record.parents.get("rows", rows.sha256) == rows.sha256:
        return None
    return Finding(path, "was made from other rows than the dataset has now. Run its stage again.")


def _strangers(dataset: Dataset) -> list[Finding]:
    """Data files of no shard, and leftovers of a killed run."""
    expected = set(_expected(dataset))
    found = []
    for folder in ("rows", "scores", "latents", "text"):
        for path in sorted((dataset.folder / folder).rglob("*")):
            if path.suffix in (".parquet", ".arrow") and not path.name.startswith(".") and path not in expected:
                found.append(Finding(path, "belongs to no shard of this dataset. Delete it."))
    return found


def _models(dataset: Dataset) -> list[Finding]:
    folders = [dataset.codec_folder(codec) for codec in dataset.codecs()]
    folders += [dataset.encoder_folder(encoder) for encoder in dataset.encoders()]
    return [
        Finding(folder / name, f"{problem}. Delete {folder} and run again. {_ENCODE}")
        for folder in folders
        for name, problem in damaged_model_files(folder).items()
    ]


def _levels(dataset: Dataset) -> list[Finding]:
    if not dataset.levels_path.exists():
        return []
    try:
        read_json(dataset.levels_path)
    except OpenMiroError as error:
        return [Finding(dataset.levels_path, f"{error}. Run: openmiro levels fit {dataset.folder}")]
    return []


def _report(dataset: Dataset) -> list[Finding]:
    remedy = f"Run openmiro annotate SOURCE --out {dataset.folder} again."
    try:
        if read_report(dataset) != make_report(dataset):
            return [Finding(dataset.report_path, f"does not account for the rows that are there. {remedy}")]
    except MissingFileError:
        return [Finding(dataset.report_path, f"is missing: annotate did not come to its end. {remedy}")]
    except OpenMiroError as error:
        return [Finding(dataset.report_path, f"{error}. {remedy}")]
    return []
