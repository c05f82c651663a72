"""Whether the columns that training needs are finished, undamaged and made from the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openmiro.core.artifact import Record, read_record, record_path
from openmiro.core.artifact import check as check_file
from openmiro.core.errors import DamagedFileError, MissingFileError, ProvenanceError
from openmiro.core.types import CaptionKind, RewardSet
from openmiro.data.store import Dataset

FULL_CHECK_BYTES = 4 * 2**30
"""With check="auto", files up to this sum are verified byte for byte when training data are opened."""


def check_columns(dataset: Dataset, rewards: RewardSet, codec: str, encoder: str, check: str) -> None:
    """Verifies that every file a run needs is finished, whole, of these rows and of this version of its reward.

    `check` is that of `TrainingData.open`.

    Raises:
        MissingFileError, DamagedFileError, ProvenanceError: as there.
    """
    needed: dict[Path, str] = {}
    for shard in dataset.shards:
        needed[dataset.rows_path(shard)] = "annotate"
        needed[dataset.latents_path(codec, shard)] = "encode"
        needed.update({dataset.text_path(encoder, kind, shard): "encode" for kind in CaptionKind})
    for spec in rewards.specs:
        stored = dataset.reward_spec(spec.name)
        if stored.version != spec.version:
            raise ProvenanceError(
                f"the scores of '{spec.name}' are of its version {stored.version}, but version {spec.version} is asked"
                f" for. Run openmiro annotate again, then openmiro levels fit {dataset.folder}"
            )
        needed.update(dict.fromkeys(dataset.score_paths(spec.name).values(), "annotate"))
    records = {path: check_stage(path, stage, dataset) for path, stage in needed.items()}
    _check_parents(dataset, records)
    if check == "full" or (check == "auto" and sum(r.num_bytes for r in records.values()) <= FULL_CHECK_BYTES):
        for path in records:
            check_file(path)


def check_stage(path: Path, stage: str, dataset: Dataset) -> Record:
    """The record of a file that a stage should have finished, after comparing the file's size.

    Raises:
        MissingFileError: it was not; names the command.
        DamagedFileError: the file has another size.
    """

    command = (
        f"openmiro encode {dataset.folder}" if stage == "encode" else f"openmiro annotate SOURCE --out {dataset.folder}"
    )
    record = read_record(path)
    if record is None:
        raise MissingFileError(f"{path} was not finished. Run: {command}")
    if not path.exists():
        raise MissingFileError(f"{path} is gone, though its record {record_path(path).name} is there. Run: {command}")
    if path.stat().st_size != record.num_bytes:
        raise DamagedFileError(
            f"{path} is damaged: {path.stat().st_size} bytes instead of {record.num_bytes}. Delete it and run:"
            f" {command}"
        )
    return record


def _check_parents(dataset: Dataset, records: Mapping[Path, Record]) -> None:
    digests = {shard: dataset.rows_record(shard).sha256 for shard in dataset.shards}
    for path, record in records.items():
        parent = record.parents.get("rows")
        if parent is not None and parent != digests.get(path.stem):
            raise ProvenanceError(
                f"{path} was made from other rows than {dataset.rows_path(path.stem)}. Run its stage again."
            )
