"""Bytes to pictures, under limits that are checked before decoding.

The rules, the same everywhere: the first frame; EXIF orientation applied; transparency laid on white; 16-bit samples
rescaled to 8 bits; RGB. Formats are told by their content, and only those that need no outside program are accepted.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from pydantic import Field
from torch import Tensor

from openmiro.core.config import Config
from openmiro.data.status import RowFlag, RowStatus

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What Pillow may try; EPS and others that start a program or read other files are left out."""
DETAIL_LENGTH = 160
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_TRUNCATION = re.compile(r"truncat|broken data stream|unexpected end|premature", re.IGNORECASE)


class Limits(Config):
    """What a row may have. All are checked before the costly step that they guard.

    Attributes:
        max_image_bytes: size of a compressed image.
        max_pixels: width times height, read from the header.
        min_side: the shorter side, in pixels.
        max_aspect: longer side over shorter side.
        max_caption_bytes: of one caption in UTF-8; a longer one is cut and flagged.
        max_metadata_bytes: size of a row's JSON; a larger one is ignored and flagged.
        rows_per_shard: how many rows of a folder or table make one shard. A tar is one shard.
    """

    max_image_bytes: int = Field(default=256 * 2**20, gt=0)
    max_pixels: int = Field(default=64_000_000, gt=0)
    min_side: int = Field(default=8, gt=0)
    max_aspect: float = Field(default=16.0, ge=1)
    max_caption_bytes: int = Field(default=16_384, gt=0)
    max_metadata_bytes: int = Field(default=2**20, gt=0)
    rows_per_shard: int = Field(default=1024, gt=0)


class ImageError(Exception):
    """A picture that cannot be used; carries the status of its row."""

    def __init__(self, status: RowStatus, detail: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.size = status, detail, size


@dataclass(frozen=True)
class Decoded:
    """An RGB picture and what had to be overlooked on the way."""

    image: Image.Image
    flags: tuple[RowFlag, ...] = ()


def decode_image(content: bytes, limits: Limits) -> Decoded:
    """Decodes one picture to RGB by the rules of this module.

    Raises:
        ImageError: it cannot be used; says why.
    """
    if len(content) > limits.max_image_bytes:
        raise ImageError(RowStatus.IMAGE_TOO_LARGE, f"{len(content)} bytes")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched on half-gray pictures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own pixel limit only warns; ours refuses
        image = _open(content)
        _check_size(image.size, limits)
        try:
            image.load()
            flags = ()
            try:
                image = ImageOps.exif_transpose(image)
            except MemoryError:
                raise
            except Exception:
                flags = (RowFlag.ORIENTATION_UNREADABLE,)
            return Decoded(_to_rgb(image), flags)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything on hostile bytes
            truncated = isinstance(error, EOFError) or _TRUNCATION.search(str(error))
            status = RowStatus.IMAGE_TRUNCATED if truncated else RowStatus.IMAGE_UNREADABLE
            raise ImageError(status, describe(error), image.size) from None


def describe(error: BaseException) -> str:
    """An exception as one short line without memory addresses, so that reruns write the same bytes."""
    text = " ".join(_ADDRESS.sub("0x", f"{type(error).__name__}: {error}").split())
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return printable.encode("utf-8", "replace").decode()[:DETAIL_LENGTH]


def square_pixels(image: Image.Image, resolution: int) -> Tensor:
    """The center square of an RGB picture at `resolution`, float32 [3, r, r] in [-1, 1]; antialiased where resized."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if (width, height) != (resolution, resolution):
        # Cropped first: what lies outside of the square must not bleed into its border.
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((resolution, resolution), Image.Resampling.BICUBIC)
    levels = torch.from_numpy(np.asarray(image, np.uint8).copy()).permute(2, 0, 1)
    return levels.float() / 127.5 - 1


def _open(content: bytes) -> Image.Image:
    if not content:
        raise ImageError(RowStatus.IMAGE_UNREADABLE, "empty")
    if (
        content[:4] == b"RIFF"
        and content[8:12] == b"WEBP"
        and int.from_bytes(content[4:8], "little") + 8 > len(content)
    ):
        # The WebP decoder only says that it failed; the container says how long it should have been.
        raise ImageError(RowStatus.IMAGE_TRUNCATED, "shorter than its header says")
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(RowStatus.IMAGE_UNREADABLE, f"not one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageError(RowStatus.IMAGE_TOO_LARGE, "too many pixels") from None
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(RowStatus.IMAGE_UNREADABLE, describe(error)) from None


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    shape = f"{width} x {height} pixels"
    if width * height > limits.max_pixels:
        raise ImageError(RowStatus.IMAGE_TOO_LARGE, shape, size)
    if min(size) < limits.min_side or max(size) > limits.max_aspect * min(size):
        raise ImageError(RowStatus.IMAGE_TOO_SMALL, shape, size)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8), "L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
