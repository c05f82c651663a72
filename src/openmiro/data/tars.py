"""Tar shards read so that every member is accounted for and nothing is ever extracted.

Members are grouped into rows as webdataset does: the key is the name up to the first dot of its last component. Unlike
webdataset, members of one key need not be neighbors, a second image of the same key is a counted duplicate, links and
devices are never followed, and a damaged or truncated file gives its whole rows and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from openmiro.core.errors import DataError, ProvenanceError
from openmiro.data.images import Limits
from openmiro.data.rows import Location, RawRow
from openmiro.data.status import RowStatus
from openmiro.data.text import clean_key

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_BLOCK = 512
_MAX_EXTENDED = 2**20
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_COMPRESSIONS = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd"}
_REGULAR = (b"0", b"\0", b"7")


class Member(NamedTuple):
    """One member of a tar: where its content lies. `is_regular` is False for links, devices, folders, sparse files."""

    name: str
    offset: int
    size: int
    is_regular: bool
    is_folder: bool


@dataclass
class TarScan:
    """All members of a tar whose header could be read.

    Attributes:
        members: in order; the last one may reach beyond the end of the file.
        num_bytes: size of the file.
        damage: what ended the scan early; empty where the archive has its end marker.
    """

    members: list[Member] = field(default_factory=list)
    num_bytes: int = 0
    damage: str = ""


def scan_tar(path: Path) -> TarScan:
    """Reads the headers of a tar and nothing else."""
    with path.open("rb") as file:
        scan = TarScan(num_bytes=path.stat().st_size)
        offset, ended, long_name, extended = 0, False, "", _Extended()
        while offset + _BLOCK <= scan.num_bytes:
            file.seek(offset)
            header = file.read(_BLOCK)
            if header.count(0) == _BLOCK:
                ended, offset = True, offset + _BLOCK  # go on: concatenated tars have such blocks in the middle
                continue
            kind, size = header[156:157], _number(header[124:136])
            if size is None or size < 0 or not _checksum_matches(header):
                scan.damage = "" if ended else f"not a tar header at byte {offset}"
                return scan
            ended = False
            content = offset + _BLOCK
            if kind in (b"L", b"x", b"g", b"K"):
                body = _read(file, content, min(size, _MAX_EXTENDED))
                if kind == b"L":
                    long_name = _text(body)
                elif kind == b"x":
                    extended = _parse_extended(body)
            else:
                size = size if extended.size is None else extended.size
                name = extended.path or long_name or _ustar_name(header)
                scan.members.append(Member(name, content, size, kind in _REGULAR, kind == b"5"))
                long_name, extended = "", _Extended()
            offset = content + -(-size // _BLOCK) * _BLOCK
        if not ended:
            where = "inside a member" if offset > scan.num_bytes else "without an end-of-archive marker"
            scan.damage = f"the file ends {where} after {scan.num_bytes} bytes"
        return scan


@dataclass
class _Slots:
    key: str
    image: Member | None = None
    caption: Member | None = None
    metadata: Member | None = None

    def filled(self) -> tuple[bool, bool, bool]:
        return self.image is not None, self.caption is not None, self.metadata is not None

    def has_both(self) -> bool:
        return self.image is not None and (self.caption is not None or self.metadata is not None)


@dataclass(frozen=True)
class TarShard:
    """One tar as a shard of a source."""

    name: str
    path: Path

    def row_keys(self) -> Iterator[str]:
        """Keys of the rows."""
        return (slots.key for slots in _group(scan_tar(self.path).members))

    def rows(self, limits: Limits) -> Iterator[RawRow]:
        """Every row in the order of its first member."""
        scan = scan_tar(self.path)
        groups = _group(scan.members)
        seen: set[str] = set()
        with self.path.open("rb") as file:
            for number, slots in enumerate(groups):
                is_last = number == len(groups) - 1
                is_cut = bool(scan.damage) and (
                    _reaches_beyond(slots, scan) or (is_last and _is_less_than(slots, groups[0]))
                )
                yield _row(file, slots, limits, is_duplicate=slots.key in seen, cut=scan.damage if is_cut else "")
                seen.add(slots.key)

    def notes(self) -> list[str]:
        """What is wrong with the file as a whole."""
        scan = scan_tar(self.path)
        return [f"{RowStatus.SHARD_TRUNCATED}: {scan.damage}"] if scan.damage else []

    def read_image(self, location: Location) -> bytes:
        """The bytes of an image that `rows` found.

        Raises:
            ProvenanceError: the tar is shorter than it was.
        """
        with self.path.open("rb") as file:
            content = _read(file, location.offset, location.size)
        if len(content) != location.size:
            raise ProvenanceError(f"{self.path} has changed since it was annotated: it is too short now")
        return content


def check_is_tar(path: Path) -> None:
    """Refuses compressed tars, whose members cannot be reached at random.

    Raises:
        DataError: the tar is compressed.
    """
    with path.open("rb") as file:
        start = file.read(6)
    for magic, program in (
        (b"\x1f\x8b", "gunzip"),
        (b"BZh", "bunzip2"),
        (b"\xfd7zXZ", "unxz"),
        (b"(\xb5/\xfd", "unzstd"),
    ):
        if start.startswith(magic):
            raise DataError(f"{path} is compressed. Unpack it to a plain tar first, with {program}.")


def _group(members: list[Member]) -> list[_Slots]:
    groups: list[_Slots] = []
    by_key: dict[str, list[_Slots]] = {}
    for member in members:
        match = _NAME.fullmatch(member.name.removeprefix("./"))
        if member.is_folder or match is None or match[1].startswith("__"):
            continue
        slot = _slot_of(match[2].lower())
        if slot is None:
            continue
        key = clean_key(match[1])
        rows = by_key.setdefault(key, [])
        row = next((r for r in rows if getattr(r, slot) is None), None)
        if row is None:
            row = _Slots(key)
            rows.append(row)
            groups.append(row)
        setattr(row, slot, member)
    return groups


def _slot_of(extension: str) -> str | None:
    if extension in IMAGE_EXTENSIONS:
        return "image"
    return {"txt": "caption", "json": "metadata"}.get(extension)


def _row(file: BinaryIO, slots: _Slots, limits: Limits, is_duplicate: bool, cut: str) -> RawRow:
    row = RawRow(slots.key)
    if slots.image is not None:
        row.location = Location("", slots.image.offset, slots.image.size)
    if is_duplicate:
        return row.rejected(RowStatus.DUPLICATE_KEY)
    if cut:
        return row.rejected(RowStatus.SHARD_TRUNCATED, cut)
    if slots.image is None:
        return row.rejected(RowStatus.MISSING_IMAGE)
    if not slots.image.is_regular:
        return row.rejected(RowStatus.MEMBER_NOT_REGULAR)
    if slots.image.size > limits.max_image_bytes:
        return row.rejected(RowStatus.IMAGE_TOO_LARGE, f"{slots.image.size} bytes")
    if slots.caption is not None and slots.caption.is_regular:
        row.caption = _read(file, slots.caption.offset, min(slots.caption.size, limits.max_caption_bytes + 4))
    if slots.metadata is not None and slots.metadata.is_regular:
        row.metadata = _read(file, slots.metadata.offset, min(slots.metadata.size, limits.max_metadata_bytes + 1))
    row.image = _read(file, slots.image.offset, slots.image.size)
    return row


def _reaches_beyond(slots: _Slots, scan: TarScan) -> bool:
    members = (slots.image, slots.caption, slots.metadata)
    return any(m is not None and m.is_regular and m.offset + m.size > scan.num_bytes for m in members)


def _is_less_than(last: _Slots, first: _Slots) -> bool:
    """Whether the last row before a cut lacks a member that rows of this shard have."""
    if last is first:  # nothing to compare with: only a row with all three is known to be whole
        return not all(last.filled())
    return not last.has_both() or any(has and not had for has, had in zip(first.filled(), last.filled()))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


class _Extended(NamedTuple):
    path: str = ""
    size: int | None = None


def _parse_extended(body: bytes) -> _Extended:
    """`path` and `size` of a pax header, records "LENGTH KEY=VALUE\\n"; anything malformed ends it."""
    path, size, offset = "", None, 0
    while match := re.compile(rb"(\d{1,10}) ([^=]+)=").match(body, offset):
        end = offset + int(match[1])
        if end <= match.end() or end > len(body):
            break
        value = body[match.end() : end - 1]
        if match[2] == b"path":
            path = value.decode("utf-8", "replace")
        elif match[2] == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        offset = end
    return _Extended(path, size)


def _number(digits: bytes) -> int | None:
    """An octal or base-256 field of a header; None where it is neither."""
    if digits[0] & 0x80:
        return int.from_bytes(digits[1:], "big") if digits[0] == 0x80 else None
    text = digits.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return None


def _checksum_matches(header: bytes) -> bool:
    stated = _number(header[148:156])
    return stated == sum(header[:148]) + sum(header[156:]) + 8 * 0x20


def _text(field_bytes: bytes) -> str:
    return field_bytes.split(b"\0", 1)[0].decode("utf-8", "replace")


def _ustar_name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:262] == b"ustar" else ""
    return f"{prefix}/{name}" if prefix and header[263:265] == b"00" else name
