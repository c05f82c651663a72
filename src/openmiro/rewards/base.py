"""Scoring pictures with any reward: batching, and every picture looked at once however many captions it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from openmiro.core.errors import DataError
from openmiro.core.types import RewardModel

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_COLUMN = "image"
"""The single score column of an image-only reward."""


@torch.no_grad()
def score_pairs(
    model: RewardModel, images: Sequence[Image], texts: Sequence[str] | None = None, batch_size: int = 64
) -> NDArray[np.float32]:
    """Raw scores [N] of N pictures with their texts. Image-only rewards need no texts.

    Raises:
        DataError: the reward needs texts and there are none, or their number is not that of the pictures.
    """
    if texts is None:
        if model.spec.needs_text:
            raise DataError(
                f"the reward '{model.spec.name}' scores a picture against a text: give one text per picture"
            )
        texts = [""] * len(images)
    column = "texts" if model.spec.needs_text else IMAGE_COLUMN
    return score_captions(model, images, {"texts": texts}, batch_size)[column]


@torch.no_grad()
def score_captions(
    model: RewardModel, images: Sequence[Image], captions: Mapping[str, Sequence[str | None]], batch_size: int = 64
) -> dict[str, NDArray[np.float32]]:
    """Raw scores [N] per caption column; the features of a picture are computed once for all of its captions.

    Args:
        model: the reward.
        images: N pictures.
        captions: column name -> N texts; None where a row has no such caption.
        batch_size: pictures per batch.

    Returns:
        The score column of each caption column (NaN where the caption is None), or the one column "image" of an
        image-only reward.

    Raises:
        DataError: a caption column has another length than the pictures, or the reward returned other than [B] scores.
    """
    for name, texts in captions.items():
        if len(texts) != len(images):
            raise DataError(f"{len(images)} pictures but {len(texts)} texts in '{name}' for '{model.spec.name}'")
    blank: dict[str, Sequence[str | None]] = {IMAGE_COLUMN: [""] * len(images)}
    columns = captions if model.spec.needs_text else blank
    scores = {name: np.full(len(images), np.nan, np.float32) for name in columns}
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        features = encode_pictures(model, images[start : rows.stop])
        for name, texts in columns.items():
            given = [i for i in rows if texts[i] is not None]
            if given:
                part = features if len(given) == len(rows) else features[[i - start for i in given]]
                scores[name][given] = _checked(model, part, [texts[i] or "" for i in given])
    return scores


def score_all(
    models: Sequence[RewardModel], images: Sequence[Image], texts: Sequence[str] | None = None, batch_size: int = 64
) -> NDArray[np.float32]:
    """Raw scores [N, R] of N pictures by R rewards, in the order of `models`."""
    columns = [score_pairs(model, images, texts, batch_size) for model in models]
    return np.stack(columns, axis=1) if columns else np.empty((len(images), 0), np.float32)


@torch.no_grad()
def encode_pictures(model: RewardModel, images: Sequence[Image]) -> torch.Tensor:
    """Features [B, ...] of pictures of any mode and size."""
    return model.encode_images(torch.stack([model.preprocess(as_rgb(image)) for image in images]))


def as_rgb(image: Image) -> Image:
    """The picture as RGB; transparent parts lie on white."""
    if image.mode == "RGB":
        return image
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    from PIL import Image as Pictures

    layer = image.convert("RGBA")
    white = Pictures.new("RGBA", layer.size, "white")
    return Pictures.alpha_composite(white, layer).convert("RGB")


def _checked(model: RewardModel, features: torch.Tensor, texts: Sequence[str]) -> NDArray[np.float32]:
    scores = model.score(features, texts)
    if scores.shape != (len(texts),):
        raise DataError(
            f"the reward '{model.spec.name}' returned scores of shape {tuple(scores.shape)} for {len(texts)} pairs;"
            f" expected ({len(texts)},)"
        )
    return scores.detach().to("cpu", torch.float32).numpy()
