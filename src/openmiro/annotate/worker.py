"""One task, one shard, atomic commits: the same function under every engine.

A task that was done is recognized by its files' records and costs nothing; a task that was killed is done again and
writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from openmiro.annotate.tasks import AnnotateTask, LatentTask, Task, TaskReport, TextTask
from openmiro.codecs import load_codec, load_text_encoder
from openmiro.core.artifact import is_committed
from openmiro.core.errors import DataError, OpenMiroError
from openmiro.core.types import CaptionKind, ImageCodec, RewardModel, TextEncoder, batched
from openmiro.data.columns import (
    Latents,
    Provenance,
    Scores,
    TextColumn,
    write_latents,
    write_rows,
    write_scores,
    write_text,
)
from openmiro.data.images import describe, square_pixels
from openmiro.data.reading import read_row, reread
from openmiro.data.rows import Row
from openmiro.data.sources import Source
from openmiro.data.status import CellStatus, RowStatus, ScoreStatus
from openmiro.data.store import Dataset
from openmiro.rewards.base import score_captions
from openmiro.rewards.catalog import load_reward

READER_VERSION = 1
"""Changes whenever the same source would give other rows or other pixels."""


class Opened(NamedTuple):
    """A dataset and its source, opened once per process."""

    dataset: Dataset
    source: Source


class ShardWorker:
    """Does tasks one after the other; keeps models and the source open between them."""

    def __init__(self) -> None:
        self._open: Callable[[Path], Opened] = cache(_open)
        self._reward: Callable[[str], RewardModel] = cache(load_reward)
        self._codec: Callable[[Path], ImageCodec] = cache(load_codec)
        self._encoder: Callable[[Path], TextEncoder] = cache(load_text_encoder)

    def run(self, task: Task) -> TaskReport:
        """Does one task, or finds that it was done.

        Raises:
            DataError: a reward, codec or encoder failed; names the shard and the rows.
            ProvenanceError: the source has changed since its rows were read.
            DiskFullError: no space is left; earlier commits are intact.
        """
        with torch.no_grad():
            if isinstance(task, AnnotateTask):
                return self._annotate(task)
            return self._latents(task) if isinstance(task, LatentTask) else self._text(task)

    def _annotate(self, task: AnnotateTask) -> TaskReport:
        opened = self._open(task.dataset)
        path = opened.dataset.rows_path(task.shard)
        made = rows_provenance(opened.dataset, task.shard)
        rewards = [self._reward(name) for name in task.rewards]
        if is_committed(path, producer=made.producer, parents=made.parents):
            return _score_known_rows(opened, task, rewards)
        tables = [_ScoreTable(reward, task.shard) for reward in rewards]
        rows: list[Row] = []
        for pairs in batched(_read_all(opened, task.shard), task.batch_size):
            for table in tables:
                table.add(pairs)
            rows.extend(row for row, _ in pairs)
        notes = opened.source.shard(task.shard).notes()
        record = write_rows(path, rows, notes, made)
        written = 1 + sum(table.write(opened.dataset, rows, record.sha256, task.batch_size) for table in tables)
        return TaskReport(task.shard, len(rows), written, 0, tuple(notes))

    def _latents(self, task: LatentTask) -> TaskReport:
        opened = self._open(task.dataset)
        dataset, path = opened.dataset, opened.dataset.latents_path(task.codec, task.shard)
        codec = self._codec(dataset.codec_folder(task.codec))
        made = Provenance(
            {
                "codec": codec.name,
                "fingerprint": codec.fingerprint(),
                "resolution": task.resolution,
                "batch_size": task.batch_size,
                "reader": READER_VERSION,
            },
            {"rows": dataset.rows_record(task.shard).sha256},
        )
        num_rows = dataset.rows_record(task.shard).num_rows
        if is_committed(path, producer=made.producer, parents=made.parents):
            return TaskReport(task.shard, num_rows, 0, 1)
        rows = dataset.rows(task.shard).rows
        shape = codec.latent_shape(task.resolution)
        mean, std = np.zeros((len(rows), *shape), np.float16), None
        for batch in batched(reread(opened.source, task.shard, rows), task.batch_size):
            numbers = [number for number, _ in batch]
            pixels = torch.stack([square_pixels(image, task.resolution) for _, image in batch])
            found, spread = _guarded(codec.name, task.shard, rows, numbers, lambda p=pixels: codec.encode(p))
            mean[numbers] = _float16(found, codec.name, task.shard, rows, numbers)
            if spread is not None:
                std = np.zeros_like(mean) if std is None else std
                std[numbers] = _float16(spread, codec.name, task.shard, rows, numbers)
        status = [CellStatus.OK if row.is_ok else CellStatus.ROW_REJECTED for row in rows]
        ok = np.array([row.is_ok for row in rows], bool)
        write_latents(path, [row.key for row in rows], Latents(mean, std, ok), status, made)
        return TaskReport(task.shard, num_rows, 1)

    def _text(self, task: TextTask) -> TaskReport:
        dataset = self._open(task.dataset).dataset
        encoder = self._encoder(dataset.encoder_folder(task.encoder))
        record = dataset.rows_record(task.shard)
        rows: Sequence[Row] | None = None
        written = 0
        for kind in CaptionKind:
            path = dataset.text_path(task.encoder, kind, task.shard)
            made = Provenance(
                {
                    "encoder": encoder.name,
                    "fingerprint": encoder.fingerprint(),
                    "max_tokens": encoder.max_tokens,
                    "caption": kind.value,
                    "batch_size": task.batch_size,
                },
                {"rows": record.sha256},
            )
            if not is_committed(path, producer=made.producer, parents=made.parents):
                rows = dataset.rows(task.shard).rows if rows is None else rows
                texts = [row.text(kind) if row.is_ok else None for row in rows]
                status = [_text_status(row, text) for row, text in zip(rows, texts)]
                column = _encode_texts(encoder, task, rows, texts)
                write_text(path, [row.key for row in rows], column, status, made)
                written += 1
        return TaskReport(task.shard, record.num_rows, written, len(CaptionKind) - written)


def rows_provenance(dataset: Dataset, shard: str) -> Provenance:
    """What a rows file is made with and from."""
    parents = {"source": dataset.header.shards[shard]}
    if dataset.header.captions_digest:
        parents["captions"] = dataset.header.captions_digest
    return Provenance({"reader": READER_VERSION, "limits": dataset.limits.dump()}, parents)


def scores_provenance(reward: RewardModel, column: str, rows_digest: str, batch_size: int) -> Provenance:
    """What a score column is made with and from."""
    producer = {"reward": reward.spec.dump(), "column": column, "batch_size": batch_size, "reader": READER_VERSION}
    return Provenance(producer, {"rows": rows_digest})


def _open(folder: Path) -> Opened:
    dataset = Dataset.open(folder)
    return Opened(dataset, dataset.source())


def _read_all(opened: Opened, shard: str) -> Iterator[tuple[Row, Image.Image | None]]:
    limits = opened.dataset.limits
    return (read_row(raw, limits) for raw in opened.source.rows(shard, limits))


class _ScoreTable:
    """The score columns of one reward and shard while they fill."""

    def __init__(self, reward: RewardModel, shard: str) -> None:
        self.reward, self.shard = reward, shard
        self.columns: dict[str, list[NDArray[np.float32]]] = {str(column): [] for column in reward.spec.columns}

    def add(self, pairs: Sequence[tuple[Row, Image.Image | None]]) -> None:
        """Scores consecutive rows."""
        found = [(i, row, image) for i, (row, image) in enumerate(pairs) if image is not None]
        spec = self.reward.spec
        texts = {kind.value: [row.text(kind, spec.caption) for _, row, _ in found] for kind in CaptionKind}
        scores = _guarded(
            spec.name,
            self.shard,
            [row for row, _ in pairs],
            [i for i, _, _ in found],
            lambda: score_captions(self.reward, [image for _, _, image in found], texts, max(1, len(found))),
        )
        for column, values in self.columns.items():
            part = np.full(len(pairs), np.nan, np.float32)
            part[[i for i, _, _ in found]] = scores[column] if found else []
            values.append(part)

    def write(self, dataset: Dataset, rows: Sequence[Row], rows_digest: str, batch_size: int) -> int:
        """Commits the columns that are not there yet; returns how many."""
        written = 0
        for column, parts in self.columns.items():
            path = dataset.scores_path(self.reward.spec.name, column, self.shard)
            made = scores_provenance(self.reward, column, rows_digest, batch_size)
            if is_committed(path, producer=made.producer, parents=made.parents):
                continue
            values = np.concatenate(parts) if parts else np.empty(0, np.float32)
            status = tuple(self._status(row, column, value) for row, value in zip(rows, values))
            write_scores(path, [row.key for row in rows], Scores(values, status), made)
            written += 1
        return written

    def _status(self, row: Row, column: str, value: np.float32) -> ScoreStatus:
        if not row.is_ok:
            return ScoreStatus.ROW_REJECTED
        if column in tuple(CaptionKind) and row.text(CaptionKind(column), self.reward.spec.caption) is None:
            return ScoreStatus.NO_CAPTION
        return ScoreStatus.OK if np.isfinite(value) else ScoreStatus.NOT_FINITE


def _score_known_rows(opened: Opened, task: AnnotateTask, rewards: Sequence[RewardModel]) -> TaskReport:
    dataset, record = opened.dataset, opened.dataset.rows_record(task.shard)
    missing = [reward for reward in rewards if not _has_scores(dataset, reward, task, record.sha256)]
    table = dataset.rows(task.shard)
    if not missing:
        return TaskReport(task.shard, record.num_rows, 0, 1 + len(rewards), table.notes)
    tables = [_ScoreTable(reward, task.shard) for reward in missing]
    images = reread(opened.source, task.shard, table.rows)
    # The same batches as in the first pass, rejected rows included: a network's scores may depend on the batch.
    for start in range(0, len(table.rows), task.batch_size):
        batch = table.rows[start : start + task.batch_size]
        pairs = [(row, next(images)[1] if row.is_ok else None) for row in batch]
        for scores in tables:
            scores.add(pairs)
    written = sum(t.write(dataset, table.rows, record.sha256, task.batch_size) for t in tables)
    return TaskReport(task.shard, record.num_rows, written, 1 + len(rewards) - len(missing), table.notes)


def _has_scores(dataset: Dataset, reward: RewardModel, task: AnnotateTask, rows_digest: str) -> bool:
    for column in map(str, reward.spec.columns):
        made = scores_provenance(reward, column, rows_digest, task.batch_size)
        path = dataset.scores_path(reward.spec.name, column, task.shard)
        if not is_committed(path, producer=made.producer, parents=made.parents):
            return False
    return True


def _encode_texts(encoder: TextEncoder, task: TextTask, rows: Sequence[Row], texts: Sequence[str | None]) -> TextColumn:
    present = np.array([text is not None for text in texts], bool)
    lengths, parts = np.zeros(len(texts), np.int64), []
    for numbers in batched(np.flatnonzero(present).tolist(), task.batch_size):
        given = [texts[i] or "" for i in numbers]
        encoded = _guarded(encoder.name, task.shard, rows, numbers, lambda given=given: encoder.encode(given))
        is_ids = encoded.text.ndim == 2
        values = encoded.text.cpu().to(torch.int32 if is_ids else torch.float16).numpy()
        if not is_ids and not np.isfinite(values).all():
            raise DataError(
                f"the text encoder {encoder.name} gave features beyond float16 ({_where(task.shard, rows, numbers)})"
            )
        mask = encoded.mask.cpu().numpy()
        lengths[numbers] = mask.sum(1)
        parts.append(values[mask])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if not parts:
        parts = [_no_tokens(encoder)]
    return TextColumn(np.concatenate(parts), offsets, present)


def _no_tokens(encoder: TextEncoder) -> NDArray[Any]:
    example = encoder.encode([""]).text
    return np.zeros((0,), np.int32) if example.ndim == 2 else np.zeros((0, example.shape[2]), np.float16)


def _text_status(row: Row, text: str | None) -> CellStatus:
    if row.status != RowStatus.OK:
        return CellStatus.ROW_REJECTED
    return CellStatus.NO_CAPTION if text is None else CellStatus.OK


def _float16(
    values: torch.Tensor, name: str, shard: str, rows: Sequence[Row], numbers: Sequence[int]
) -> NDArray[np.float16]:
    half = values.detach().cpu().to(torch.float16).numpy()
    if not np.isfinite(half).all():
        raise DataError(
            f"the codec {name} gave latents that are not finite in float16 ({_where(shard, rows, numbers)})"
        )
    return half


def _guarded(name: str, shard: str, rows: Sequence[Row], numbers: Sequence[int], work: Callable[[], Any]) -> Any:
    """Runs a model; its failure names the shard and the rows that it was given."""
    try:
        return work() if numbers else {}
    except (OpenMiroError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"'{name}' failed ({_where(shard, rows, numbers)}): {describe(error)}") from error


def _where(shard: str, rows: Sequence[Row], numbers: Sequence[int]) -> str:
    first, last = rows[numbers[0]].key, rows[numbers[-1]].key
    return f"shard {shard}, row '{first}'" if first == last else f"shard {shard}, rows '{first}' to '{last}'"


__all__ = ["READER_VERSION", "ShardWorker", "rows_provenance", "scores_provenance"]
