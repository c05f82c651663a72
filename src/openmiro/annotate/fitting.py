"""Codecs and encoders that learn from the data: fitted once, always the same way, saved beside their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from openmiro.annotate.engines import single_thread
from openmiro.annotate.worker import READER_VERSION
from openmiro.codecs import load_codec, load_text_encoder
from openmiro.core.artifact import read_json
from openmiro.core.errors import OpenMiroError
from openmiro.core.types import CaptionKind, ImageCodec, TextEncoder, batched
from openmiro.data.images import square_pixels
from openmiro.data.models import MODEL_MARKER, damaged_model_files, seal_model
from openmiro.data.reading import reread
from openmiro.data.status import RowStatus
from openmiro.data.store import Dataset, check_name

MAX_FIT_IMAGES = 20_000
MAX_FIT_CAPTIONS = 1_000_000
_BATCH = 64


@dataclass(frozen=True)
class ReadyCodec:
    """A codec that is fitted and saved; `column` is the full name of its latents."""

    codec: ImageCodec
    column: str


def ready_codec(dataset: Dataset, codec: ImageCodec | str, resolution: int) -> ReadyCodec:
    """The codec, fitted to the dataset where it needs to be, and saved in latents/<column>/codec.

    Raises:
        ConfigError: the codec cannot work at this resolution.
    """
    model = load_codec(codec) if isinstance(codec, str) else codec
    model.latent_shape(resolution)
    column = check_name("codec", f"{model.name}-{resolution}")
    folder = dataset.codec_folder(column)
    asked = {"resolution": resolution, "max_images": MAX_FIT_IMAGES, "reader": READER_VERSION}
    with single_thread():
        if not getattr(model, "needs_fit", False):
            _save(model, folder, {"fingerprint": model.fingerprint()})
            return ReadyCodec(model, column)
        asked = {"rows": dataset.rows_fingerprint(), "settings": _settings(model), **asked}
        kept = _kept(folder, asked, load_codec)
        if kept is None:
            kept = model.fit(_pixel_batches(dataset, resolution))  # type: ignore[attr-defined]
            _save(kept, folder, asked)
        return ReadyCodec(kept, column)


def ready_encoder(dataset: Dataset, encoder: TextEncoder | str) -> TextEncoder:
    """The text encoder, fitted to the dataset's captions where it needs to be, and saved in text/<name>/encoder."""
    model = load_text_encoder(encoder) if isinstance(encoder, str) else encoder
    folder = dataset.encoder_folder(check_name("text encoder", model.name))
    if not getattr(model, "needs_fit", False):
        _save(model, folder, {"fingerprint": model.fingerprint()})
        return model
    asked = {"rows": dataset.rows_fingerprint(), "settings": _settings(model), "max_captions": MAX_FIT_CAPTIONS}
    kept = _kept(folder, asked, load_text_encoder)
    if kept is None:
        kept = model.fit(_captions(dataset))  # type: ignore[attr-defined]
        _save(kept, folder, asked)
    return kept


def _settings(model: Any) -> Any:
    settings = getattr(model, "settings", None)
    return settings.dump() if settings is not None else model.name


def _kept(folder: Path, asked: dict[str, Any], load: Callable[[Path], Any]) -> Any:
    """What was fitted before with the same request to the same rows, or None."""
    return load(folder) if _is_saved(folder, asked) else None


def _is_saved(folder: Path, asked: dict[str, Any]) -> bool:
    try:
        return read_json(folder / MODEL_MARKER)["made"] == asked and not damaged_model_files(folder)
    except (OpenMiroError, KeyError, TypeError):
        return False


def _save(model: Any, folder: Path, asked: dict[str, Any]) -> None:
    if _is_saved(folder, asked):
        return
    (folder / MODEL_MARKER).unlink(missing_ok=True)
    model.save(folder)
    seal_model(folder, asked)


def _pixel_batches(dataset: Dataset, resolution: int) -> Iterator[Tensor]:
    """Pixels [B, 3, r, r] of evenly spaced usable rows."""
    total = sum(dataset.rows_record(shard).counts.get(RowStatus.OK, 0) for shard in dataset.shards)
    wanted = np.unique(np.linspace(0, total - 1, min(total, MAX_FIT_IMAGES)).round().astype(np.int64))
    pictures = _wanted_pictures(dataset, wanted)
    for batch in batched((square_pixels(picture, resolution) for picture in pictures), _BATCH):
        yield torch.stack(batch)


def _wanted_pictures(dataset: Dataset, wanted: NDArray[np.int64]) -> Iterator[Image.Image]:
    """The usable rows with the given numbers, counted over all shards."""
    source, before = dataset.source(), 0
    for shard in dataset.shards:
        num_ok = dataset.rows_record(shard).counts.get(RowStatus.OK, 0)
        inside = wanted[(wanted >= before) & (wanted < before + num_ok)] - before
        before += num_ok
        if len(inside):
            rows = [row for row in dataset.rows(shard).rows if row.is_ok]
            yield from (picture for _, picture in reread(source, shard, [rows[i] for i in inside]))


def _captions(dataset: Dataset) -> Iterator[str]:
    """Both captions of the first usable rows."""
    left = MAX_FIT_CAPTIONS
    for shard in dataset.shards:
        for row in dataset.rows(shard).rows:
            texts = [row.text(kind) for kind in CaptionKind] if row.is_ok else []
            for text in texts:
                if text is not None and left > 0:
                    left -= 1
                    yield text


__all__ = ["MAX_FIT_CAPTIONS", "MAX_FIT_IMAGES", "ReadyCodec", "ready_codec", "ready_encoder"]
