"""Captions and keys from data: always valid, bounded Unicode without control characters."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from openmiro.data.status import RowFlag

MAX_KEY_LENGTH = 256
_UNSAFE = re.compile("[\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class CleanText:
    """A text and what had to be repaired in it."""

    text: str
    flags: frozenset[RowFlag] = frozenset()


def clean_caption(value: bytes | str, max_bytes: int) -> CleanText:
    """A caption as it is stored: UTF-8, at most `max_bytes` long, without control characters, blanks at the ends cut.

    Args:
        value: bytes of a text file (a byte order mark is dropped), or a string from JSON or a table.
        max_bytes: longest form in UTF-8.
    """
    flags = set()
    if isinstance(value, bytes):
        if len(value) > max_bytes:
            flags.add(RowFlag.CAPTION_CUT)
            value = _cut(value, max_bytes)
        text = value.decode("utf-8-sig", "replace")
        if "\ufffd" in text and "\ufffd".encode() not in value:
            flags.add(RowFlag.CAPTION_NOT_UTF8)
    else:
        text = value
    sane = _UNSAFE.sub(_replacement, text.replace("\r\n", "\n").replace("\r", "\n"))
    if sane != text.replace("\r\n", "\n").replace("\r", "\n"):
        flags.add(RowFlag.CAPTION_SANITIZED)
    encoded = sane.encode()
    if len(encoded) > max_bytes:
        flags.add(RowFlag.CAPTION_CUT)
        sane = _cut(encoded, max_bytes).decode()
    return CleanText(sane.strip(), frozenset(flags))


def clean_key(name: str) -> str:
    """A sample key as it is stored and printed. It is a label: nothing ever uses it as a path."""
    sane = re.sub("[\ud800-\udfff\x00-\x1f\x7f-\x9f]", "\ufffd", name)
    if len(sane) > MAX_KEY_LENGTH:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        sane = f"{sane[: MAX_KEY_LENGTH - 17]}-{digest}"
    return sane


def parse_metadata(content: bytes, max_bytes: int) -> dict[str, Any] | None:
    """The JSON object of a row, or None where it is damaged, too large or not an object."""
    if len(content) > max_bytes:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _replacement(match: re.Match[str]) -> str:
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else " "


def _cut(encoded: bytes, max_bytes: int) -> bytes:
    """At most `max_bytes`, never ending inside a character that is valid."""
    end = max_bytes
    while end > max(0, max_bytes - 3) and end < len(encoded) and encoded[end] & 0xC0 == 0x80:
        end -= 1
    return encoded[:end]
