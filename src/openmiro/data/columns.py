"""Sidecar columns of one shard: rows and scores as Parquet, latents and text as memory-mapped Arrow IPC.

Row i of every sidecar is row i of the shard's rows file; a missing value is null. Every file is committed with its
checksum (`core.artifact`); Parquet pages carry checksums of their own that are verified on every read.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from openmiro.core.artifact import Record, commit_file
from openmiro.core.errors import DamagedFileError, MissingFileError
from openmiro.data.rows import ROWS_SCHEMA, Row, RowsTable, rows_from_arrow, rows_to_arrow
from openmiro.data.status import CellStatus, ScoreStatus

_NOTES = b"openmiro.notes"
_SHAPE = b"openmiro.shape"


@dataclass(frozen=True)
class Provenance:
    """What made a column and from what. Together they decide whether a committed file may be kept."""

    producer: Mapping[str, Any]
    parents: Mapping[str, str]


@dataclass(frozen=True)
class Scores:
    """One score column of one shard.

    Attributes:
        values: float32 [N] raw scores, NaN where missing.
        status: one per row.
    """

    values: NDArray[np.float32]
    status: tuple[ScoreStatus, ...]


@dataclass(frozen=True)
class Latents:
    """The latents of one shard, read-only views into the mapped file.

    Attributes:
        mean: float16 [N, C, H, W]; zeros where missing.
        std: the same, or None for a codec without spread.
        present: bool [N].
    """

    mean: NDArray[np.float16]
    std: NDArray[np.float16] | None
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class TextColumn:
    """The encoded captions of one shard, ragged; read-only views into the mapped file.

    Attributes:
        values: token ids int32 [T], or features float16 [T, D], of all captions one after the other.
        offsets: int64 [N + 1]; the tokens of row i are values[offsets[i] : offsets[i + 1]].
        present: bool [N]. A present caption may have no tokens.
    """

    values: NDArray[np.int32] | NDArray[np.float16]
    offsets: NDArray[np.int64]
    present: NDArray[np.bool_]


def write_rows(path: Path, rows: Sequence[Row], notes: Sequence[str], made: Provenance) -> Record:
    """Commits a rows file; `notes` say what is wrong with the shard as a whole."""
    table = rows_to_arrow(rows).replace_schema_metadata({_NOTES: json.dumps(list(notes)).encode()})
    counts = Counter(row.status.value for row in rows)
    return _commit(path, lambda p: _write_parquet(p, table), "rows", made, counts)


def read_rows(path: Path) -> RowsTable:
    """Reads a rows file.

    Raises:
        MissingFileError, DamagedFileError: it is absent or damaged.
    """
    table = _read_parquet(path)
    if table.column_names != ROWS_SCHEMA.names:
        raise DamagedFileError(f"{path} is not a rows file of this version of openmiro: its columns differ")
    return RowsTable(rows_from_arrow(table), _notes(table.schema))


def read_rows_notes(path: Path) -> tuple[str, ...]:
    """Only the notes of a rows file."""
    try:
        return _notes(pq.read_schema(path))
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Delete it and run its stage again.") from None


def _notes(schema: pa.Schema) -> tuple[str, ...]:
    return tuple(json.loads((schema.metadata or {}).get(_NOTES, b"[]")))


def read_row_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a rows file, as an Arrow table."""
    return _read_parquet(path, names)


def write_scores(path: Path, keys: Sequence[str], scores: Scores, made: Provenance) -> Record:
    """Commits a score column (columns key, score, status; null where the status is not ok)."""
    missing = np.array([status != ScoreStatus.OK for status in scores.status], bool)
    table = pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "score": pa.array(np.where(missing, np.float32(0), scores.values), pa.float32(), mask=missing),
            "status": pa.array([status.value for status in scores.status], pa.string()),
        }
    )
    counts = Counter(status.value for status in scores.status)
    return _commit(path, lambda p: _write_parquet(p, table), "scores", made, counts)


def read_scores(path: Path) -> Scores:
    """Reads a score column, verifying its pages' checksums.

    Raises:
        MissingFileError, DamagedFileError: it is absent or damaged.
    """
    table = _read_parquet(path)
    values = table.column("score").to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return Scores(values, tuple(ScoreStatus(s) for s in table.column("status").to_pylist()))


def read_score_values(path: Path) -> NDArray[np.float32]:
    """Only the raw scores, float32 [N], NaN where missing."""
    column = _read_parquet(path, ["score"]).column("score")
    return column.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)


def write_latents(
    path: Path, keys: Sequence[str], latents: Latents, status: Sequence[CellStatus], made: Provenance
) -> Record:
    """Commits latents: FixedSizeList<float16> `mean` and, where the codec has one, `std`."""
    shape = latents.mean.shape[1:]
    columns: dict[str, pa.Array] = {"key": pa.array(keys, pa.string())}
    for name, values in (("mean", latents.mean), ("std", latents.std)):
        if values is not None:
            columns[name] = _fixed_size(values.reshape(len(values), int(np.prod(shape))), latents.present)
    table = pa.table(columns).replace_schema_metadata({_SHAPE: json.dumps(shape).encode()})
    return _commit(path, lambda p: _write_ipc(p, table), "latents", made, Counter(s.value for s in status))


def read_latents(path: Path) -> Latents:
    """Maps latents into memory; nothing is read until it is indexed. Checksums are `core.artifact.check`'s task.

    Raises:
        MissingFileError, DamagedFileError: it is absent, truncated or not of this format.
    """
    table = _open_ipc(path)
    try:
        shape = tuple(json.loads((table.schema.metadata or {})[_SHAPE]))
        mean = _single(table, "mean")
        std = _single(table, "std") if "std" in table.column_names else None
        return Latents(_view(mean, shape), None if std is None else _view(std, shape), _validity(mean))
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path} does not hold latents: {error}") from None


def write_text(
    path: Path, keys: Sequence[str], text: TextColumn, status: Sequence[CellStatus], made: Provenance
) -> Record:
    """Commits encoded captions: `ids` List<int32>, or `features` List<FixedSizeList<float16, D>>."""
    offsets = pa.array(text.offsets, pa.int64())
    if text.values.ndim == 1:
        name, flat = "ids", pa.array(text.values, pa.int32())
    else:
        name, flat = "features", _fixed_size(text.values, np.ones(len(text.values), bool))
    lists = pa.LargeListArray.from_arrays(offsets, flat, mask=pa.array(~text.present, pa.bool_()))
    table = pa.table({"key": pa.array(keys, pa.string()), name: lists})
    return _commit(path, lambda p: _write_ipc(p, table), "text", made, Counter(s.value for s in status))


def read_text(path: Path) -> TextColumn:
    """Maps encoded captions into memory.

    Raises:
        MissingFileError, DamagedFileError: it is absent, truncated or not of this format.
    """
    table = _open_ipc(path)
    try:
        lists = _single(table, "ids" if "ids" in table.column_names else "features")
        offsets = np.frombuffer(lists.buffers()[1], np.int64, len(lists) + 1) if len(lists) else np.zeros(1, np.int64)
        if "ids" in table.column_names:
            values = lists.values.to_numpy()
        else:
            values = _view(lists.values, (lists.values.type.list_size,))
        return TextColumn(values, offsets, _validity(lists))
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise DamagedFileError(f"{path} does not hold encoded captions: {error}") from None


def _commit(path: Path, write: Any, kind: str, made: Provenance, counts: Mapping[str, int]) -> Record:
    return commit_file(path, write, kind=kind, producer=made.producer, parents=made.parents, counts=counts)


def _write_parquet(path: Path, table: pa.Table) -> None:
    # Through a Python file, so that a full disk is the OSError that the commit turns into a clear message.
    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def _read_parquet(path: Path, names: Sequence[str] | None = None) -> pa.Table:
    if not path.exists():
        raise MissingFileError(f"{path} does not exist. Run its stage again.")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(
            columns=None if names is None else list(names)
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Delete it and run its stage again.") from None


def _write_ipc(path: Path, table: pa.Table) -> None:
    with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=max(1, len(table)))


def _open_ipc(path: Path) -> pa.Table:
    if not path.exists():
        raise MissingFileError(f"{path} does not exist. Run: openmiro encode")
    try:
        return pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}. Delete it and run: openmiro encode") from None


def _single(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    if column.num_chunks > 1:
        raise ValueError(f"'{name}' is not in one piece")
    return column.chunk(0)


def _fixed_size(values: NDArray[Any], present: NDArray[np.bool_]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float16).reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~present, pa.bool_()))


def _view(column: Any, shape: tuple[int, ...]) -> NDArray[np.float16]:
    return column.values.to_numpy(zero_copy_only=True).reshape(len(column), *shape)


def _validity(column: Any) -> NDArray[np.bool_]:
    return column.is_valid().to_numpy(zero_copy_only=False).astype(bool)
