"""Names for what can be the matter with a row, so that every row read is accounted for.

For any dataset: rows in = rows with status ok + sum of rows by failure status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RowStatus(StrEnum):
    """Whether a row can be used, and if not, why. Each row has exactly one: the first that applies, in this order."""

    OK = "ok"
    """Image and original caption are there and the image decodes."""
    DUPLICATE_KEY = "duplicate_key"
    """An earlier row of the shard (of the whole folder or table) has the same key; the first one is kept."""
    SHARD_TRUNCATED = "shard_truncated"
    """The shard's file ends inside this row."""
    MEMBER_NOT_REGULAR = "member_not_regular"
    """The image is a link, a device, a directory or a sparse file, none of which is followed or read."""
    PATH_OUTSIDE = "path_outside"
    """The table points outside its own folder."""
    MISSING_IMAGE = "missing_image"
    MISSING_CAPTION = "missing_caption"
    """There is no original caption, or it is empty."""
    IMAGE_TOO_LARGE = "image_too_large"
    """More bytes or more pixels than the limits allow, found before decoding."""
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_UNREADABLE = "image_unreadable"
    """Not an image of an accepted format, or damaged."""
    IMAGE_TRUNCATED = "image_truncated"
    """The image's data end early."""


class RowFlag(StrEnum):
    """What was repaired in a row that is otherwise used as it is."""

    CAPTION_NOT_UTF8 = "caption_not_utf8"
    """Bytes that are not UTF-8 were replaced by U+FFFD."""
    CAPTION_SANITIZED = "caption_sanitized"
    """Lone surrogates or control characters were replaced."""
    CAPTION_CUT = "caption_cut"
    """The caption was longer than the limit and was cut."""
    METADATA_UNREADABLE = "metadata_unreadable"
    """The row's JSON is damaged, too large or not an object, and was ignored."""
    ORIENTATION_UNREADABLE = "orientation_unreadable"
    """The image's EXIF orientation is damaged; the picture is used as stored."""


class ScoreStatus(StrEnum):
    """Why a score is there or is missing."""

    OK = "ok"
    ROW_REJECTED = "row_rejected"
    """The row's own status is not ok."""
    NO_CAPTION = "no_caption"
    """The row has no caption of this kind."""
    NOT_FINITE = "not_finite"
    """The reward gave NaN or an infinity; stored as missing, never trained on."""


class CellStatus(StrEnum):
    """Why a latent or a text is there or is missing."""

    OK = "ok"
    ROW_REJECTED = "row_rejected"
    NO_CAPTION = "no_caption"


def accounting(counts: Mapping[str, int]) -> str:
    """The invariant in words: "100 rows = 97 ok + 2 image_truncated + 1 missing_caption"."""
    failures = [f"{n} {status}" for status, n in sorted(counts.items()) if status != RowStatus.OK and n]
    return f"{sum(counts.values())} rows = " + " + ".join([f"{counts.get(RowStatus.OK, 0)} ok", *failures])
