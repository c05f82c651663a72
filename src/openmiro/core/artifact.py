"""Files that are either whole or absent, each with a record that says what made it and proves its bytes.

A data file ``x.parquet`` is committed together with its record ``x.parquet.json``: the data file is renamed into
place first, the record last, so *the record's presence is the commit*. Killed anywhere, a rerun finds either a
committed file or none. Both are pure functions of their inputs (no clock, no host name), so a rerun writes the
same bytes, and two writers at once do no harm.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import DamagedFileError, DiskFullError, MissingFileError, OpenMiroError

SCHEMA_VERSION = 1
RECORD_SUFFIX = ".json"
_TEMPORARY_PREFIX = ".tmp-"


class Record(Config):
    """What one committed data file is.

    Attributes:
        kind: what the file holds ("rows", "scores", "latents", "text", ...).
        producer: settings that determine the content (names, versions, options). JSON types only.
        parents: name -> fingerprint of every input.
        counts: row counts by status; their sum is the number of rows.
        num_bytes: size of the data file in bytes.
        sha256: hexadecimal digest of the data file.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str
    producer: dict[str, Any]
    parents: dict[str, str] = {}
    counts: dict[str, int] = {}
    num_bytes: int
    sha256: str

    @property
    def num_rows(self) -> int:
        return sum(self.counts.values())


def record_path(path: Path) -> Path:
    """Where the record of the data file `path` lies."""
    return path.with_name(path.name + RECORD_SUFFIX)


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to disk and renamed over `path`.

    Raises:
        DiskFullError: no space is left; nothing is left behind and `path` is as it was.
    """
    with _temporary_beside(path) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with naming_full_disk(path):
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turns the many errors of a full disk into one message about `path`.

    Raises:
        DiskFullError: no space is left.
    """
    try:
        yield
    except Exception as error:
        if _is_disk_full(error):
            raise DiskFullError(
                f"no space left while writing {path}. Everything committed before is intact: free some space and run"
                " the same command again."
            ) from error
        raise


def _is_disk_full(error: Exception) -> bool:
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError):
        return error.errno in numbers
    # Writers in Rust (safetensors) raise errors of their own, which carry the number in their text only.
    return any(f"(os error {number})" in str(error) for number in numbers)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, as UTF-8 with newline line ends on every platform."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically: sorted keys, two spaces, no NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} is not valid JSON: {error}") from None


def commit(
    temporary: Path,
    path: Path,
    *,
    kind: str,
    producer: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> Record:
    """Moves a finished temporary file to `path`, then writes its record. Call inside no other `atomic_path`."""
    record = Record(
        kind=kind,
        producer=dict(producer),
        parents=dict(parents or {}),
        counts=dict(counts or {}),
        num_bytes=temporary.stat().st_size,
        sha256=sha256_file(temporary),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if temporary != path and _is_same(path, record):
        temporary.unlink()  # another writer was first with the very same bytes; its readers must not lose them
        return record
    record_path(path).unlink(missing_ok=True)  # a stale record must never vouch for new bytes
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    write_json(record_path(path), record.dump())
    return record


def commit_file(
    path: Path,
    write: Callable[[Path], None],
    *,
    kind: str,
    producer: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> Record:
    """Commits what `write` puts into the temporary path that it is given.

    Raises:
        DiskFullError: no space is left; nothing is left behind.
    """
    with _temporary_beside(path) as temporary:
        write(temporary)
        return commit(temporary, path, kind=kind, producer=producer, parents=parents, counts=counts)


def _is_same(path: Path, record: Record) -> bool:
    try:
        if read_record(path) != record:
            return False
        return path.stat().st_size == record.num_bytes and sha256_file(path) == record.sha256
    except (OpenMiroError, OSError):
        return False


def read_record(path: Path) -> Record | None:
    """The record of the data file `path`, or None where it was never committed.

    Raises:
        DamagedFileError: the record itself is damaged.
    """
    location = record_path(path)
    if not location.exists():
        return None
    return Record.parse(read_json(location), str(location))


def is_committed(path: Path, *, producer: Mapping[str, Any], parents: Mapping[str, str] | None = None) -> bool:
    """Whether `path` was committed by this very producer from these very inputs, so that it need not be made again."""
    try:
        record = read_record(path)
    except DamagedFileError:
        return False
    return (
        record is not None
        and path.exists()
        and path.stat().st_size == record.num_bytes
        and record.producer == dict(producer)
        and record.parents == dict(parents or {})
    )


def check(path: Path) -> Record:
    """Verifies a committed file against its record, byte for byte.

    Raises:
        MissingFileError: the file or its record does not exist.
        DamagedFileError: size or checksum differ.
    """
    record = read_record(path)
    if record is None:
        raise MissingFileError(
            f"{path} was not finished (it has no record {record_path(path).name}). Run its stage again."
        )
    if not path.exists():
        raise MissingFileError(f"{path} is gone, though its record is there. Run its stage again.")
    size = path.stat().st_size
    if size != record.num_bytes:
        raise DamagedFileError(
            f"{path} is damaged: {size} bytes instead of {record.num_bytes}. Delete it and run again."
        )
    if sha256_file(path) != record.sha256:
        raise DamagedFileError(f"{path} is damaged: its checksum differs from its record. Delete it and run again.")
    return record


def record_fingerprint(paths: Mapping[str, Path]) -> str:
    """A hash over the contents of several committed files, by name; equal exactly where all their bytes are equal.

    Raises:
        MissingFileError: one of them was never committed.
    """
    digests = {}
    for name, path in sorted(paths.items()):
        record = read_record(path)
        if record is None:
            raise MissingFileError(f"{path} was not finished. Run its stage again.")
        digests[name] = record.sha256
    return fingerprint(digests)


def remove_leftovers(folder: Path) -> int:
    """Deletes temporary files that a killed writer left under `folder`; returns how many."""
    leftovers = list(folder.rglob(f"{_TEMPORARY_PREFIX}*")) if folder.exists() else []
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
