"""From a raw row of a source to a row of the dataset and its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from openmiro.core.errors import DataError, ProvenanceError
from openmiro.data.images import ImageError, Limits, decode_image
from openmiro.data.rows import RawRow, Row, checksum, clean_captions
from openmiro.data.sources import Source
from openmiro.data.status import RowStatus

_NO_LIMITS = Limits(max_image_bytes=2**62, max_pixels=2**62, min_side=1, max_aspect=1e9)
"""For pictures that passed the limits before."""


def read_row(raw: RawRow, limits: Limits) -> tuple[Row, Image.Image | None]:
    """The row with its final status, and its RGB picture where it is usable. Never raises for what data can hold."""
    if raw.status is not None:
        return Row(raw.key, raw.status, raw.detail, location=raw.location), None
    captions = clean_captions(raw, limits)
    texts = {
        "caption": captions.original,
        "synthetic": captions.synthetic,
        "short_synthetic": captions.short_synthetic,
        "location": raw.location,
    }
    if raw.image is None:
        return Row(raw.key, RowStatus.MISSING_IMAGE, flags=captions.flags, **texts), None
    if captions.original is None:
        return Row(raw.key, RowStatus.MISSING_CAPTION, flags=captions.flags, **texts), None
    crc = checksum(raw.image)
    try:
        decoded = decode_image(raw.image, limits)
    except ImageError as error:
        width, height = error.size or (None, None)
        return Row(
            raw.key, error.status, error.detail, captions.flags, width=width, height=height, checksum=crc, **texts
        ), None
    width, height = decoded.image.size
    flags = (*captions.flags, *decoded.flags)
    return Row(raw.key, RowStatus.OK, "", flags, width=width, height=height, checksum=crc, **texts), decoded.image


def reread(source: Source, shard: str, rows: Sequence[Row]) -> Iterator[tuple[int, Image.Image]]:
    """Number and picture of every usable row.

    Raises:
        ProvenanceError: a picture is no longer what it was.
    """
    reader = source.shard(shard)
    for number, row in enumerate(rows):
        if row.location is None or not row.is_ok:
            continue
        content = reader.read_image(row.location)
        if checksum(content) != row.checksum:
            raise ProvenanceError(
                f"the image of row '{row.key}' (shard {shard}) has changed in the source since it was annotated."
                " Restore the source, or annotate it into a new folder."
            )
        try:
            yield number, decode_image(content, _NO_LIMITS).image
        except ImageError as error:
            raise DataError(
                f"the image of row '{row.key}' (shard {shard}) could be decoded before and now cannot: {error}"
            ) from error
