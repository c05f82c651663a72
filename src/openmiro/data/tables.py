"""Tables as sources: a CSV, Parquet or JSON Lines file that names images, or one that brings synthetic captions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from openmiro.core.artifact import sha256_file
from openmiro.core.config import fingerprint
from openmiro.core.errors import DataError, MissingFileError
from openmiro.data.images import Limits
from openmiro.data.rows import SHORT_SYNTHETIC_FIELD, SYNTHETIC_FIELD, Location, RawRow, locate
from openmiro.data.status import RowStatus
from openmiro.data.text import clean_key

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
IMAGE_COLUMNS = ("image", "image_path", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text")
_OPTIONAL = ("key", SYNTHETIC_FIELD, SHORT_SYNTHETIC_FIELD)


def read_table(path: Path, wanted: Sequence[str]) -> pa.Table:
    """The columns of `wanted` that a table has, as bytes or text.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not a table of the kind its suffix says.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist")
    try:
        if path.suffix == ".parquet":
            names = [name for name in pq.read_schema(path).names if name in wanted]
            return pq.read_table(path, columns=names)
        if path.suffix == ".jsonl":
            return _read_json_lines(path, wanted)
        return _read_csv(path, wanted)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from None


def _read_csv(path: Path, wanted: Sequence[str]) -> pa.Table:
    parse = pa_csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
    with pa_csv.open_csv(path, parse_options=parse) as reader:
        names = [name for name in reader.schema.names if name in wanted]
    if not names:
        return pa.table({})
    # Bytes, because a caption that is not UTF-8 is one row's trouble and not the whole table's.
    convert = pa_csv.ConvertOptions(
        include_columns=names, column_types={name: pa.binary() for name in names}, strings_can_be_null=False
    )
    return pa_csv.read_csv(path, parse_options=parse, convert_options=convert)


def _read_json_lines(path: Path, wanted: Sequence[str]) -> pa.Table:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: an object is expected, not a {type(value).__name__}")
        records.append(value)
    names = [name for name in wanted if any(name in record for record in records)]
    return pa.table({name: pa.array([_as_bytes(r.get(name)) for r in records], pa.binary()) for name in names})


def _as_bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _caption(value: Any) -> bytes | str | None:
    return value if isinstance(value, bytes | str) or value is None else str(value)


def _column(table: pa.Table, path: Path, what: str, choices: Sequence[str]) -> str:
    found = next((name for name in choices if name in table.column_names), None)
    if found is None:
        have = ", ".join(table.column_names) or "none of the columns known here"
        raise DataError(f"{path} has no column of {what}. Name it one of: {', '.join(choices)}. It has {have}.")
    return found


@dataclass(frozen=True)
class ImageTable:
    """A table with one row per image; image paths are relative to the table's folder."""

    path: Path

    @cached_property
    def table(self) -> pa.Table:
        """The columns that are used."""
        return read_table(self.path, (*IMAGE_COLUMNS, *CAPTION_COLUMNS, *_OPTIONAL))

    @cached_property
    def columns(self) -> tuple[str, str]:
        """Names of the image and of the caption column."""
        image = _column(self.table, self.path, "image paths", IMAGE_COLUMNS)
        return image, _column(self.table, self.path, "captions", CAPTION_COLUMNS)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key column, or else the image paths."""
        names = self.table.column("key" if "key" in self.table.column_names else self.columns[0])
        return tuple(clean_key(_text(value)) for value in names.to_pylist())

    @cached_property
    def repeated(self) -> frozenset[int]:
        """Numbers of the rows whose key came before."""
        seen: set[str] = set()
        return frozenset(i for i, key in enumerate(self.keys) if key in seen or seen.add(key))

    @cached_property
    def digest(self) -> str:
        """Of the table's bytes."""
        return sha256_file(self.path)[:16]


@dataclass(frozen=True)
class TableShard:
    """Consecutive rows of a table."""

    name: str
    source: ImageTable
    start: int
    stop: int

    def row_keys(self) -> Iterator[str]:
        """Keys of the rows."""
        return iter(self.source.keys[self.start : self.stop])

    def rows(self, limits: Limits) -> Iterator[RawRow]:
        """The rows in the table's order."""
        part = self.source.table.slice(self.start, self.stop - self.start)
        image, caption = self.source.columns
        columns = {name: part.column(name).to_pylist() for name in part.column_names}
        nothing = [None] * len(part)
        for i in range(len(part)):
            row = RawRow(self.source.keys[self.start + i], caption=_caption(columns[caption][i]))
            row.synthetic = _optional_text(columns.get(SYNTHETIC_FIELD, nothing)[i])
            row.short_synthetic = _optional_text(columns.get(SHORT_SYNTHETIC_FIELD, nothing)[i])
            if self.start + i in self.source.repeated:
                yield row.rejected(RowStatus.DUPLICATE_KEY)
            else:
                yield read_image_into(row, self.source.path.parent, _text(columns[image][i]), limits)

    def notes(self) -> list[str]:
        """Nothing can be wrong with a table that was read."""
        return []

    def fingerprint(self) -> str:
        """Of the table and the range of rows; images are checked one by one by their own checksums."""
        return fingerprint([self.source.digest, self.start, self.stop])

    def read_image(self, location: Location) -> bytes:
        """The bytes of an image that `rows` found."""
        return read_located(self.source.path.parent, location)


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def read_image_into(row: RawRow, root: Path, relative: str, limits: Limits) -> RawRow:
    """Reads the image file `relative` below `root` into a row, or rejects the row."""
    if not relative.strip():
        return row.rejected(RowStatus.MISSING_IMAGE, "no path")
    target = locate(root, relative)
    if target is None:
        return row.rejected(RowStatus.PATH_OUTSIDE)
    try:
        if not target.exists():
            return row.rejected(RowStatus.MISSING_IMAGE)
        if not target.is_file():
            return row.rejected(RowStatus.MEMBER_NOT_REGULAR)
        size = target.stat().st_size
        row.location = Location(relative, 0, size)
        if size > limits.max_image_bytes:
            return row.rejected(RowStatus.IMAGE_TOO_LARGE, f"{size} bytes")
        row.image = target.read_bytes()
    except OSError as error:
        return row.rejected(RowStatus.IMAGE_UNREADABLE, error.strerror or type(error).__name__)
    return row


def read_located(root: Path, location: Location) -> bytes:
    """The bytes of an image file below `root`.

    Raises:
        MissingFileError: it is gone.
    """
    target = locate(root, location.path)
    if target is None or not target.is_file():
        raise MissingFileError(f"{root / location.path} is gone since it was annotated. Put it back and run again.")
    return target.read_bytes()


@dataclass(frozen=True)
class CaptionsTable:
    """Synthetic captions by key: columns `key`, `synthetic_caption` and optionally `short_synthetic_caption`."""

    path: Path

    @cached_property
    def table(self) -> pa.Table:
        """Key and captions; keys as text and all different.

        Raises:
            DataError: a needed column is missing, or a key occurs twice.
        """
        table = read_table(self.path, _OPTIONAL)
        _column(table, self.path, "keys", ("key",))
        _column(table, self.path, "synthetic captions", (SYNTHETIC_FIELD, SHORT_SYNTHETIC_FIELD))
        keys = pa.array([clean_key(_text(value)) for value in table.column("key").to_pylist()], pa.string())
        repeated = [c["values"].as_py() for c in keys.value_counts() if c["counts"].as_py() > 1][:3]
        if repeated:
            raise DataError(f"{self.path} has the same key more than once: {', '.join(repeated)}")
        return table.set_column(table.column_names.index("key"), "key", keys)

    def has_any(self, keys: Iterator[str]) -> bool:
        """Whether any of the keys has a synthetic caption here."""
        return any(key in self._row_of for key in keys)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self.table.column("key").to_pylist())}

    def join(self, rows: list[RawRow]) -> list[RawRow]:
        """Gives rows their synthetic captions; they go before those in the rows' own JSON."""
        columns = {name: self.table.column(name) for name in self.table.column_names if name != "key"}
        for row in rows:
            index = self._row_of.get(row.key)
            if index is not None:
                for name, column in columns.items():
                    value = _optional_text(column[index].as_py())
                    if value and name == SYNTHETIC_FIELD:
                        row.synthetic = value
                    elif value:
                        row.short_synthetic = value
        return rows

    @cached_property
    def digest(self) -> str:
        """Of the table's bytes."""
        return sha256_file(self.path)[:16]


__all__ = ["TABLE_SUFFIXES", "CaptionsTable", "ImageTable", "TableShard", "read_table"]
