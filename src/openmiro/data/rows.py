"""Rows: what a source yields, and the rows file of a dataset, one row per row read, usable or not."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from openmiro.core.types import CaptionKind
from openmiro.data.images import Limits
from openmiro.data.status import RowFlag, RowStatus
from openmiro.data.text import clean_caption, parse_metadata

SYNTHETIC_FIELD = "synthetic_caption"
SHORT_SYNTHETIC_FIELD = "short_synthetic_caption"
Length = Literal["long", "short"]


class Location(NamedTuple):
    """Where an image's bytes lie: `path` relative to the source's root (empty in a tar), and a range of bytes."""

    path: str
    offset: int
    size: int


@dataclass
class RawRow:
    """One row as a source found it. `status` is set where the source already knows that it cannot be used."""

    key: str
    image: bytes | None = None
    location: Location | None = None
    caption: bytes | str | None = None
    metadata: bytes | None = None
    synthetic: str | None = None
    short_synthetic: str | None = None
    status: RowStatus | None = None
    detail: str = ""

    def rejected(self, status: RowStatus, detail: str = "") -> RawRow:
        """The row with a failure status."""
        self.status, self.detail = status, detail
        return self


@dataclass(frozen=True)
class Row:
    """One row as the dataset keeps it.

    Attributes:
        key: label from the source, unique within its shard among rows with status ok.
        status, detail: whether it can be used, and why not.
        flags: what was repaired.
        caption: original caption.
        synthetic, short_synthetic: synthetic captions, or None.
        width, height: of the decoded picture, in pixels; None where it was not decoded.
        location: where the image's bytes lie in the source.
        checksum: CRC-32 of the image's bytes, to notice a source that has changed.
    """

    key: str
    status: RowStatus
    detail: str = ""
    flags: tuple[RowFlag, ...] = ()
    caption: str | None = None
    synthetic: str | None = None
    short_synthetic: str | None = None
    width: int | None = None
    height: int | None = None
    location: Location | None = None
    checksum: int | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the row can be used."""
        return self.status == RowStatus.OK

    def text(self, kind: CaptionKind, length: Length = "long") -> str | None:
        """A caption, or None where the row has none of this kind.

        Args:
            kind: the original or the synthetic caption.
            length: which synthetic caption; where only one was written, it serves for both.
        """
        if kind == CaptionKind.ORIGINAL:
            return self.caption
        first, second = self.synthetic, self.short_synthetic
        return (first or second) if length == "long" else (second or first)


class Captions(NamedTuple):
    """The cleaned captions of a raw row."""

    original: str | None
    synthetic: str | None
    short_synthetic: str | None
    flags: tuple[RowFlag, ...]


def clean_captions(raw: RawRow, limits: Limits) -> Captions:
    """The captions of a row. A text beside the image goes before the caption in its JSON; empty ones are missing."""
    flags: set[RowFlag] = set()
    metadata: dict[str, Any] = {}
    if raw.metadata is not None:
        parsed = parse_metadata(raw.metadata, limits.max_metadata_bytes)
        metadata = parsed or {}
        if parsed is None:
            flags.add(RowFlag.METADATA_UNREADABLE)

    def clean(value: Any) -> str | None:
        if not isinstance(value, bytes | str):
            return None
        cleaned = clean_caption(value, limits.max_caption_bytes)
        flags.update(cleaned.flags)
        return cleaned.text or None

    original = clean(raw.caption) or clean(metadata.get("caption"))
    synthetic = clean(raw.synthetic) or clean(metadata.get(SYNTHETIC_FIELD))
    short = clean(raw.short_synthetic) or clean(metadata.get(SHORT_SYNTHETIC_FIELD))
    return Captions(original, synthetic, short, tuple(sorted(flags)))


def checksum(content: bytes) -> int:
    """CRC-32 of an image's bytes."""
    return zlib.crc32(content)


ROWS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("detail", pa.string()),
        ("flags", pa.string()),
        ("caption", pa.string()),
        ("synthetic_caption", pa.string()),
        ("short_synthetic_caption", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_path", pa.string()),
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int64()),
        ("image_crc32", pa.uint32()),
    ]
)
"""Columns of rows/<shard>.parquet."""


@dataclass(frozen=True)
class RowsTable:
    """The rows file of one shard.

    Attributes:
        rows: every row that was read, usable or not.
        notes: what is wrong with the shard as a whole.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which rows can be used, bool [N]."""
        return np.array([row.is_ok for row in self.rows], bool)


def rows_to_arrow(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table of `ROWS_SCHEMA`."""
    locations = [row.location or (None, None, None) for row in rows]
    columns: dict[str, list[Any]] = {
        "key": [row.key for row in rows],
        "status": [row.status.value for row in rows],
        "detail": [row.detail for row in rows],
        "flags": [" ".join(row.flags) for row in rows],
        "caption": [row.caption for row in rows],
        "synthetic_caption": [row.synthetic for row in rows],
        "short_synthetic_caption": [row.short_synthetic for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "image_path": [path for path, _, _ in locations],
        "image_offset": [offset for _, offset, _ in locations],
        "image_bytes": [size for _, _, size in locations],
        "image_crc32": [row.checksum for row in rows],
    }
    return pa.table(columns, schema=ROWS_SCHEMA)


def rows_from_arrow(table: pa.Table) -> tuple[Row, ...]:
    """The inverse of `rows_to_arrow`."""
    columns = [table.column(name).to_pylist() for name in ROWS_SCHEMA.names]
    return tuple(_row(*values) for values in zip(*columns))


def _row(key, status, detail, flags, caption, synthetic, short, width, height, path, offset, size, crc) -> Row:
    return Row(
        key=key,
        status=RowStatus(status),
        detail=detail,
        flags=tuple(RowFlag(flag) for flag in flags.split()),
        caption=caption,
        synthetic=synthetic,
        short_synthetic=short,
        width=width,
        height=height,
        location=None if offset is None else Location(path, offset, size),
        checksum=crc,
    )


def locate(root: Path, relative: str) -> Path | None:
    """The file below `root` that a relative path from data names, or None where it leads outside.

    Links are resolved first, so that neither ``..`` nor a symbolic link reaches another folder.
    """
    if not relative or "\0" in relative or Path(relative).is_absolute():
        return None
    try:
        target = (root / relative).resolve()
        return target if target.is_relative_to(root.resolve()) else None
    except (OSError, RuntimeError, ValueError):
        return None
