"""The tables of codecs and text encoders, and how a name or a folder becomes an object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmiro.codecs.files import CODEC_FILE, ENCODER_FILE, read_header
from openmiro.core.errors import MissingFileError, UnknownNameError
from openmiro.core.registry import Registry
from openmiro.core.types import ImageCodec, TextEncoder

CODECS = Registry(
    "image codec",
    {
        "pixel": "openmiro.codecs.image:PixelCodec",
        "patch": "openmiro.codecs.patches:PatchCodec",
        "kl": "openmiro.codecs.kl:AutoencoderKLCodec",
    },
    group="openmiro.codecs",
)
TEXT_ENCODERS = Registry(
    "text encoder",
    {
        "words": "openmiro.codecs.text:WordEncoder",
        "transformers": "openmiro.codecs.transformers_text:TransformersTextEncoder",
    },
    group="openmiro.text_encoders",
)
_PATCH_NAME = re.compile(r"patch(\d+)x(\d+)(-plain)?")
_WORDS_NAME = re.compile(r"words(\d+)")


def build_codec(kind: str, settings: Mapping[str, Any] | None = None) -> Any:
    """An image codec of a kind; where `needs_fit` is True, `fit(batches)` gives the usable one.

    Raises:
        UnknownNameError: no such kind, or no such setting.
        ConfigError: a setting's value is out of range.
    """
    return CODECS.resolve(kind).build(dict(settings or {}))


def build_text_encoder(kind: str, settings: Mapping[str, Any] | None = None) -> Any:
    """A text encoder of a kind; where `needs_fit` is True, `fit(captions)` gives the usable one.

    Raises:
        UnknownNameError: no such kind, or no such setting.
        ConfigError: a setting's value is out of range.
    """
    return TEXT_ENCODERS.resolve(kind).build(dict(settings or {}))


def load_codec(name_or_folder: str | Path) -> ImageCodec:
    """A codec from a folder written by `codec.save`, or by name.

    Names: a kind with its default settings ("pixel"), the short form of a patch codec ("patch4x12", still to be
    fitted), a folder in diffusers' layout or a Hub repository of an AutoencoderKL ("stabilityai/sdxl-vae").

    Raises:
        UnknownNameError: none of these.
        MissingFileError, DamagedFileError: the folder is incomplete or damaged.
    """
    folder, name = Path(name_or_folder), str(name_or_folder)
    if (folder / CODEC_FILE).is_file():
        kind, _ = read_header(folder / CODEC_FILE)
        return CODECS.resolve(_registered(kind, CODECS)).load(folder)
    if match := _PATCH_NAME.fullmatch(name):
        return build_codec(
            "patch",
            {"patch_size": int(match[1]), "num_channels": int(match[2]), "sharpen": not match[3]},
        )
    if name in CODECS.names():
        return build_codec(name)
    if _looks_like_source(name, folder, "config.json"):
        return build_codec("kl", {"source": name})
    raise _refusal(folder, name, CODEC_FILE, "image codec", [*CODECS.names(), "patch4x12"])


def load_text_encoder(name_or_folder: str | Path) -> TextEncoder:
    """A text encoder from a folder written by `encoder.save`, or by name.

    Names: a kind with its default settings ("words", still to be fitted; "words48" with another length), a folder or a
    Hub repository of a transformers encoder ("google/flan-t5-xl").

    Raises:
        UnknownNameError: none of these.
        MissingFileError, DamagedFileError: the folder is incomplete or damaged.
    """
    folder, name = Path(name_or_folder), str(name_or_folder)
    if (folder / ENCODER_FILE).is_file():
        kind, _ = read_header(folder / ENCODER_FILE)
        return TEXT_ENCODERS.resolve(_registered(kind, TEXT_ENCODERS)).load(folder)
    if match := _WORDS_NAME.fullmatch(name):
        return build_text_encoder("words", {"max_tokens": int(match[1])})
    if name in TEXT_ENCODERS.names() and name != "transformers":
        return build_text_encoder(name)
    if _looks_like_source(name, folder, "config.json"):
        return build_text_encoder("transformers", {"source": name})
    raise _refusal(folder, name, ENCODER_FILE, "text encoder", [*TEXT_ENCODERS.names(), "words32"])


def _registered(kind: str, registry: Registry) -> str:
    # A dotted path is for people to type; in a folder from elsewhere it would choose what gets imported here.
    if kind not in registry.names():
        raise UnknownNameError(registry.kind, kind, registry.names())
    return kind


def _looks_like_source(name: str, folder: Path, marker: str) -> bool:
    if folder.is_dir():
        return (folder / marker).is_file()
    return name.count("/") == 1 and not name.startswith(("/", ".", "~"))


def _refusal(folder: Path, name: str, marker: str, kind: str, choices: list[str]) -> Exception:
    if folder.is_dir():
        return MissingFileError(f"{folder} holds neither {marker} nor config.json, so it is no {kind}")
    return UnknownNameError(kind, name, choices, f"Or a folder with {marker}, or a Hub repository owner/name.")
