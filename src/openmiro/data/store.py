"""A dataset folder: where its files lie and what they were made from. The source itself is never copied or changed.

    dataset/  dataset.json   rows/<shard>.parquet   scores/<reward>/<column>/<shard>.parquet
              latents/<codec>/<shard>.arrow   text/<encoder>/<caption>/<shard>.arrow   levels.json   report.json

`scores` columns are "image" for image-only rewards and "original" and "synthetic" for the others. The fitted codec and
encoder lie beside what they made, in latents/<codec>/codec and text/<encoder>/encoder. <codec> is the codec's name with
the resolution, such as "patch4x12-64". Every data file has a record beside it that proves its bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openmiro.core.artifact import Record, read_json, read_record, record_fingerprint, remove_leftovers, write_json
from openmiro.core.config import Config
from openmiro.core.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    MissingFileError,
    ProvenanceError,
    UnknownNameError,
)
from openmiro.core.types import CaptionKind, RewardSpec
from openmiro.data.columns import read_rows
from openmiro.data.images import Limits
from openmiro.data.rows import RowsTable
from openmiro.data.sources import Source, open_source

HEADER_NAME = "dataset.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Header(Config):
    """dataset.json.

    Attributes:
        source: path of the source, relative to the dataset folder, so that both can be moved together; absolute only
            where they lie on different drives.
        source_kind: "tars", "folder" or "table".
        captions: path of the captions table, like `source`, or None.
        captions_digest: of the captions table's bytes.
        shards: name -> fingerprint of the source's shard, in order.
        limits: what rows may have.
    """

    schema_version: int = 1
    source: str
    source_kind: str
    captions: str | None = None
    captions_digest: str = ""
    shards: dict[str, str]
    limits: Limits


class Dataset:
    """A dataset folder. Make it with `create`, come back to it with `open`."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header

    @classmethod
    def create(cls, folder: Path | str, source: Source, limits: Limits | None = None) -> Dataset:
        """Makes a dataset of a source, or comes back to the one that was made of it before.

        Shards that were added to a folder of tars since are added; the same source at another place is accepted.

        Raises:
            ProvenanceError: the folder belongs to another source, or to the same one before it was changed.
            DataError: the folder holds something else, or the source has no rows.
        """
        folder = Path(folder)
        fingerprints = source.fingerprints()
        if not fingerprints:
            raise DataError(f"the source {source.path} is empty: it has no rows")
        wanted = Header(
            source=_relative(source.path, folder),
            source_kind=source.kind,
            captions=None if source.captions is None else _relative(source.captions.path, folder),
            captions_digest="" if source.captions is None else source.captions.digest,
            shards=fingerprints,
            limits=limits or Limits(),
        )
        if (folder / HEADER_NAME).exists():
            _check_same(folder, cls.open(folder).header, wanted, source)
        elif folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file. Give a folder for the dataset.")
        elif folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise DataError(f"{folder} is not empty and not a dataset. Give another folder, or empty this one.")
        if not (folder / HEADER_NAME).exists() or cls.open(folder).header != wanted:
            write_json(folder / HEADER_NAME, _ordered(wanted))
        return cls(folder, wanted)

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Comes back to a dataset.

        Raises:
            MissingFileError: the folder does not exist or is not a dataset.
            DamagedFileError: its header is damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise MissingFileError(
                f"the dataset {folder} does not exist. Make it with: openmiro annotate SOURCE --out {folder}"
            )
        if not (folder / HEADER_NAME).exists():
            raise MissingFileError(
                f"{folder} is not a dataset: it has no {HEADER_NAME}. Make one with: openmiro annotate SOURCE --out"
                " DATASET"
            )
        values = read_json(folder / HEADER_NAME)
        try:
            values["shards"] = dict(values["shards"])
            return cls(folder, Header.parse(values, str(folder / HEADER_NAME)))
        except (TypeError, ValueError, KeyError, ConfigError) as error:
            raise DamagedFileError(f"{folder / HEADER_NAME} is not the header of a dataset: {error}") from None

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards, in order."""
        return tuple(self.header.shards)

    @property
    def limits(self) -> Limits:
        """What rows may have."""
        return self.header.limits

    def source(self) -> Source:
        """The source, to read images again.

        Raises:
            MissingFileError: it is not where it was.
            ProvenanceError: it no longer has the dataset's shards.
        """
        path = Path(os.path.normpath(self.folder / self.header.source))
        captions = self.header.captions
        captions_path = None if captions is None else Path(os.path.normpath(self.folder / captions))
        try:
            source = open_source(path, captions_path, self.limits)
        except MissingFileError as error:
            raise MissingFileError(
                f"the source of the dataset {self.folder} is not where it was ({error}). Put it back, or run"
                f" openmiro annotate NEW_PLACE --out {self.folder}"
            ) from None
        if not set(self.shards) <= {shard.name for shard in source.shards}:
            raise ProvenanceError(
                f"the source {path} of the dataset {self.folder} has lost shards since it was annotated"
            )
        return source

    def rows_path(self, shard: str) -> Path:
        """rows/<shard>.parquet."""
        return self.folder / "rows" / f"{shard}.parquet"

    def scores_path(self, reward: str, column: str, shard: str) -> Path:
        """scores/<reward>/<column>/<shard>.parquet."""
        return self.folder / "scores" / check_name("reward", reward) / column / f"{shard}.parquet"

    def latents_path(self, codec: str, shard: str) -> Path:
        """latents/<codec>/<shard>.arrow; `codec` is a name of `codecs`."""
        return self.folder / "latents" / check_name("codec", codec) / f"{shard}.arrow"

    def text_path(self, encoder: str, caption: CaptionKind, shard: str) -> Path:
        """text/<encoder>/<caption>/<shard>.arrow."""
        return self.folder / "text" / check_name("text encoder", encoder) / caption.value / f"{shard}.arrow"

    def codec_folder(self, codec: str) -> Path:
        """Where the codec that made some latents is saved."""
        return self.folder / "latents" / check_name("codec", codec) / "codec"

    def encoder_folder(self, encoder: str) -> Path:
        """Where the text encoder is saved."""
        return self.folder / "text" / check_name("text encoder", encoder) / "encoder"

    @property
    def levels_path(self) -> Path:
        """levels.json."""
        return self.folder / "levels.json"

    @property
    def report_path(self) -> Path:
        """report.json."""
        return self.folder / "report.json"

    def rewards(self) -> list[str]:
        """Rewards with scores, in alphabetical order."""
        return _subfolders(self.folder / "scores")

    def codecs(self) -> list[str]:
        """Names of latents, such as "patch4x12-64"."""
        return _subfolders(self.folder / "latents")

    def encoders(self) -> list[str]:
        """Names of encoded text."""
        return _subfolders(self.folder / "text")

    def choose_codec(self, name: str | None) -> str:
        """The full name of latents: given in full or without resolution, or left out where there are only one's.

        Raises:
            MissingFileError: the dataset has no latents.
            UnknownNameError: no such latents, or several to choose from.
        """
        return _choose("codec", name, self.codecs(), self.folder, lambda full: full.rpartition("-")[0])

    def choose_encoder(self, name: str | None) -> str:
        """The name of encoded text; may be left out where there is only one encoder's.

        Raises:
            MissingFileError: the dataset has no encoded text.
            UnknownNameError: no such encoder, or several to choose from.
        """
        return _choose("text encoder", name, self.encoders(), self.folder, lambda full: full)

    def rows(self, shard: str) -> RowsTable:
        """The rows of one shard."""
        return read_rows(self.rows_path(shard))

    def rows_record(self, shard: str) -> Record:
        """The record of a rows file.

        Raises:
            MissingFileError: the shard was not annotated to its end.
        """
        record = read_record(self.rows_path(shard))
        if record is None:
            raise MissingFileError(
                f"{self.rows_path(shard)} was not finished. Run openmiro annotate with the same source again: it goes"
                " on."
            )
        return record

    def rows_fingerprint(self) -> str:
        """Changes whenever a row does."""
        return record_fingerprint({shard: self.rows_path(shard) for shard in self.shards})

    def reward_spec(self, reward: str) -> RewardSpec:
        """The spec of the reward whose scores are stored.

        Raises:
            UnknownNameError: the dataset has no scores of it; lists those it has.
        """
        if reward not in self.rewards():
            raise UnknownNameError(
                "reward in this dataset", reward, self.rewards(), _annotate_hint(self.folder, reward)
            )
        for column in ("image", *CaptionKind):
            record = read_record(self.scores_path(reward, column, self.shards[0]))
            if record is not None:
                return RewardSpec.parse(record.producer["reward"], f"the scores of '{reward}'")
        raise MissingFileError(f"the scores of '{reward}' were not finished.{_annotate_hint(self.folder, reward)}")

    def score_paths(self, reward: str) -> dict[str, Path]:
        """Every score file of a reward, by "column/shard"."""
        columns = self.reward_spec(reward).columns
        return {f"{c}/{shard}": self.scores_path(reward, c, shard) for c in map(str, columns) for shard in self.shards}

    def scores_fingerprint(self, reward: str) -> str:
        """Changes whenever a score of the reward does; what levels store to know their data.

        Raises:
            MissingFileError: a shard was not scored.
        """
        return record_fingerprint(self.score_paths(reward))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Marks the folder as being written. The only writer first deletes what a killed one left behind.

        Several writers may work at once: their commits are atomic and their bytes equal.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("ab") as lock:
            if _lock(lock.fileno(), exclusive=True):
                remove_leftovers(self.folder)
            _lock(lock.fileno(), exclusive=False)
            yield


def check_name(kind: str, name: str) -> str:
    """A name that becomes a folder.

    Raises:
        ConfigError: it could leave its folder or is hard to type.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the {kind} name '{name}' must be letters, digits, dots, dashes and underscores")
    return name


def _annotate_hint(folder: Path, reward: str) -> str:
    return f" Run: openmiro annotate SOURCE --out {folder} --rewards {reward}"


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name))


def _choose(kind: str, name: str | None, have: Sequence[str], folder: Path, short: Any) -> str:
    if not have:
        raise MissingFileError(f"{folder} was not encoded yet. Run: openmiro encode {folder}")
    matches = [full for full in have if name is None or name in (full, short(full))]
    if len(matches) == 1:
        return matches[0]
    if name is None or matches:
        raise ConfigError(f"{folder} has several choices of {kind}: {', '.join(matches)}. Say which one.")
    raise UnknownNameError(kind, name, have, f"Run openmiro encode {folder} to add one.")


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _ordered(header: Header) -> dict[str, Any]:
    # JSON is written with sorted keys, so an order that matters is kept in a list.
    return {**header.dump(), "shards": [list(item) for item in header.shards.items()]}


def _check_same(folder: Path, found: Header, wanted: Header, source: Source) -> None:
    other = "Give another folder with --out, or delete this one."
    if found.source_kind != wanted.source_kind or not set(found.shards) & set(wanted.shards):
        raise ProvenanceError(
            f"{folder} is the dataset of another source, {found.source}, not of {source.path}. {other}"
        )
    changed = [name for name, digest in found.shards.items() if wanted.shards.get(name) != digest]
    if changed:
        what = ", ".join(changed[:3])
        raise ProvenanceError(
            f"{folder} is the dataset of another source than {source.path}, or the source has changed since"
            f" (shards {what}). {other}"
        )
    if source.kind != "tars" and len(found.shards) != len(wanted.shards):
        raise ProvenanceError(f"rows were added to {source.path} since {folder} was made. {other}")
    if found.captions_digest != wanted.captions_digest:
        raise ProvenanceError(f"{folder} was made with another captions table. {other}")
    if found.limits != wanted.limits:
        raise ProvenanceError(f"{folder} was made with other limits. {other}")


def _lock(descriptor: int, exclusive: bool) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (ImportError, OSError):  # another writer, or a system without locks: leftovers stay, which does no harm
        return False
    return True
