"""Image codecs and text encoders: pictures to latents and back, captions to tokens.

Everything is built by name or loaded from a folder: `build_codec`, `load_codec`, `build_text_encoder`,
`load_text_encoder`.
"""

from openmiro.codecs.catalog import (
    CODECS,
    TEXT_ENCODERS,
    build_codec,
    build_text_encoder,
    load_codec,
    load_text_encoder,
)

__all__ = ["CODECS", "TEXT_ENCODERS", "build_codec", "build_text_encoder", "load_codec", "load_text_encoder"]
