"""From a raw row of a source to a row of the dataset and its picture."""

from __future__ import annotations

from PIL import Image

from openmiro.data.images import ImageError, Limits, decode_image
from openmiro.data.rows import RawRow, Row, checksum, clean_captions
from openmiro.data.status import RowStatus


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
