"""Pictures as data inside the page: PNG in base64, small ones enlarged with their pixels kept square."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_WIDTH = 96
"""Lab pictures are enlarged to about this many pixels."""


def enlarge(image: Image, width: int = SHOWN_WIDTH) -> Image:
    """The picture enlarged by the largest whole factor that stays within `width`; a larger one is reduced to it."""
    from PIL import Image as Pictures

    image = image.convert("RGB")
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        return image.resize((width, height), Pictures.Resampling.LANCZOS)
    factor = max(1, width // image.width)
    return image.resize((image.width * factor, image.height * factor), Pictures.Resampling.NEAREST)


def data_uri(image: Image, width: int = SHOWN_WIDTH) -> str:
    """``data:image/png;base64,...`` of the picture, enlarged by `enlarge`."""
    buffer = io.BytesIO()
    enlarge(image, width).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
