"""Where rows come from: tar shards, a folder of images with captions beside them, or a table. All are only read."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from openmiro.core.config import fingerprint
from openmiro.core.errors import DataError, MissingFileError, UnknownNameError
from openmiro.data.images import Limits
from openmiro.data.rows import Location, RawRow, locate
from openmiro.data.status import RowStatus
from openmiro.data.tables import TABLE_SUFFIXES, CaptionsTable, ImageTable, TableShard, read_image_into, read_located
from openmiro.data.tars import IMAGE_EXTENSIONS, TarShard, check_is_tar
from openmiro.data.text import clean_key

_METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_SAMPLE_BYTES = 65_536


class SourceShard(Protocol):
    """The unit of work: some rows, always the same ones in the same order. `name` is safe as a file name."""

    @property
    def name(self) -> str: ...

    def row_keys(self) -> Iterator[str]:
        """Keys of the rows, without reading images."""
        ...

    def rows(self, limits: Limits) -> Iterator[RawRow]:
        """Every row, with the image's bytes where there are any."""
        ...

    def notes(self) -> list[str]:
        """What is wrong with the shard as a whole."""
        ...

    def read_image(self, location: Location) -> bytes:
        """The bytes of an image that `rows` found, again."""
        ...

    def fingerprint(self) -> str:
        """Changes when the shard's content does, as far as that can be seen without reading all of it."""
        ...


@dataclass(frozen=True)
class Source:
    """All rows of a dataset to be.

    Attributes:
        kind: what it is.
        path: as the user gave it: a file, a folder or a pattern.
        shards: in their order.
        captions: synthetic captions joined by key.
    """

    kind: Literal["tars", "folder", "table"]
    path: Path
    shards: tuple[SourceShard, ...]
    captions: CaptionsTable | None = None

    def shard(self, name: str) -> SourceShard:
        """The shard of a name.

        Raises:
            UnknownNameError: there is none.
        """
        found = self._by_name.get(name)
        if found is None:
            raise UnknownNameError(f"shard of {self.path}", name, self._by_name)
        return found

    @cached_property
    def _by_name(self) -> dict[str, SourceShard]:
        return {shard.name: shard for shard in self.shards}

    def fingerprints(self) -> dict[str, str]:
        """Shard name -> fingerprint."""
        return {shard.name: shard.fingerprint() for shard in self.shards}

    def rows(self, shard: str, limits: Limits) -> Iterator[RawRow]:
        """Every row of one shard, with synthetic captions joined."""
        for row in self.shard(shard).rows(limits):
            yield row if self.captions is None else self.captions.join([row])[0]

    def check_captions(self) -> None:
        """Verifies that the captions table belongs to this source.

        Raises:
            DataError: it matches no row.
        """
        if self.captions is None or not self.shards:
            return
        if not self.captions.has_any(key for shard in self.shards for key in shard.row_keys()):
            ours = next((key for shard in self.shards for key in shard.row_keys()), "")
            theirs = next(iter(self.captions.table.column("key").to_pylist()), "")
            raise DataError(
                f"{self.captions.path} matches no row of {self.path}: its keys look like '{theirs}', the source's"
                f" like '{ours}'"
            )


@dataclass(frozen=True)
class FileTarShard(TarShard):
    """A tar that can say what it holds."""

    def fingerprint(self) -> str:
        """Of the size and of three samples of the bytes."""
        return _sampled_digest(self.path)


@dataclass(frozen=True)
class FolderShard:
    """Some images of a folder; the caption of ``a/b.jpg`` is ``a/b.txt``, or in ``a/b.json``.

    Attributes:
        files: image paths relative to `root`, sorted.
        repeated: those of `files` whose key an earlier file has.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    repeated: frozenset[str] = frozenset()

    def row_keys(self) -> Iterator[str]:
        """Paths without suffix."""
        return (_folder_key(file) for file in self.files)

    def rows(self, limits: Limits) -> Iterator[RawRow]:
        """One row per image."""
        for file in self.files:
            row = RawRow(_folder_key(file))
            if file in self.repeated:
                yield row.rejected(RowStatus.DUPLICATE_KEY)
                continue
            row.caption = _read_beside(self.root, file, ".txt", limits.max_caption_bytes + 4)
            row.metadata = _read_beside(self.root, file, ".json", limits.max_metadata_bytes + 1)
            yield read_image_into(row, self.root, file, limits)

    def notes(self) -> list[str]:
        """Nothing can be wrong with a folder that was listed."""
        return []

    def read_image(self, location: Location) -> bytes:
        """The bytes of an image that `rows` found."""
        return read_located(self.root, location)

    def fingerprint(self) -> str:
        """Of names and sizes of images and captions."""
        names = [
            str(Path(file).with_suffix(end)) for file in self.files for end in (Path(file).suffix, ".txt", ".json")
        ]
        return fingerprint([[os.fsencode(name).hex(), _size(self.root / name)] for name in names])


def open_source(path: Path | str, captions_table: Path | str | None = None, limits: Limits | None = None) -> Source:
    """The source at a path: a tar, a folder of tars, a pattern of tars, a folder of images, or a table.

    Args:
        path: what to read.
        captions_table: CSV, Parquet or JSON Lines with synthetic captions by key.
        limits: `rows_per_shard` cuts folders and tables.

    Raises:
        MissingFileError: nothing is there.
        DataError: it holds neither tars nor images nor a table that can be used.
    """
    path, limits = Path(path), limits or Limits()
    captions = CaptionsTable(Path(captions_table)) if captions_table is not None else None
    if captions is not None and not captions.path.is_file():
        raise MissingFileError(f"the captions table {captions.path} does not exist")
    try:
        return _open(path, captions, limits)
    except PermissionError as error:
        raise DataError(f"{error.filename or path} may not be read: permission denied") from None


def _open(path: Path, captions: CaptionsTable | None, limits: Limits) -> Source:
    if path.is_dir():
        tars = sorted(path.rglob("*.tar"), key=lambda p: os.fsencode(p.relative_to(path)))
        if tars:
            return Source("tars", path, _tar_shards(tars), captions)
        table = next((path / name for name in _METADATA_NAMES if (path / name).is_file()), None)
        if table is not None:
            return Source("table", path, _table_shards(ImageTable(table), limits), captions)
        return Source("folder", path, _folder_shards(path, limits), captions)
    if path.is_file():
        if path.suffix in TABLE_SUFFIXES:
            return Source("table", path, _table_shards(ImageTable(path), limits), captions)
        if path.suffix == ".tar" or path.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
            return Source("tars", path, _tar_shards([path]), captions)
        raise DataError(
            f"{path} is not a source. Give a .tar, a folder of tars or of images, or a table"
            f" ({', '.join(TABLE_SUFFIXES)})."
        )
    if any(character in str(path) for character in "*?["):
        tars = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if name.endswith(".tar")]  # noqa: PTH207
        if not tars:
            raise MissingFileError(f"no tar matches the pattern {path}")
        return Source("tars", path, _tar_shards(tars), captions)
    raise MissingFileError(f"the source {path} does not exist")


def _tar_shards(paths: list[Path]) -> tuple[SourceShard, ...]:
    for path in paths:
        check_is_tar(path)
    stems = [safe_name(path.stem) for path in paths]
    # File systems that ignore case must not see two shards as one.
    lowered = [stem.lower() for stem in stems]
    clash = len(set(lowered)) < len(lowered)
    names = [f"{i:05d}-{stem}" if clash else stem for i, stem in enumerate(stems)]
    return tuple(FileTarShard(name, path) for name, path in zip(names, paths))


def _table_shards(table: ImageTable, limits: Limits) -> tuple[SourceShard, ...]:
    num_rows = len(table.table)
    _ = table.columns
    starts = range(0, num_rows, limits.rows_per_shard)
    return tuple(
        TableShard(f"{i:05d}", table, start, min(start + limits.rows_per_shard, num_rows))
        for i, start in enumerate(starts)
    )


def _folder_shards(root: Path, limits: Limits) -> tuple[SourceShard, ...]:
    files = sorted(_list_images(root), key=os.fsencode)
    if not files:
        raise DataError(
            f"{root} is empty of rows: it holds neither .tar files nor images ({', '.join(IMAGE_EXTENSIONS)})"
        )
    seen: set[str] = set()
    repeated = frozenset(f for f in files if _folder_key(f) in seen or seen.add(_folder_key(f)))
    parts = [files[i : i + limits.rows_per_shard] for i in range(0, len(files), limits.rows_per_shard)]
    return tuple(
        FolderShard(f"{i:05d}", root, tuple(part), repeated.intersection(part)) for i, part in enumerate(parts)
    )


def _list_images(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        # A dataset or run that was written inside the folder is not part of it.
        folders[:] = sorted(f for f in folders if not (Path(folder, f, "dataset.json").exists() or f.startswith(".")))
        for name in files:
            if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS and not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _folder_key(file: str) -> str:
    return clean_key(file.rpartition(".")[0])


def _read_beside(root: Path, file: str, suffix: str, max_bytes: int) -> bytes | None:
    target = locate(root, str(Path(file).with_suffix(suffix)))
    if target is None or not target.is_file():
        return None
    try:
        with target.open("rb") as beside:
            return beside.read(max_bytes)
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sampled_digest(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
            file.seek(offset)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def safe_name(text: str) -> str:
    """A file name made from a name in the data: letters, digits, dot, dash and underscore, not starting with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:100] or "shard"
