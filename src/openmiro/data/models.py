"""The codec and the text encoder inside a dataset: folders of files, sealed by one that lists their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmiro.core.artifact import RECORD_SUFFIX, read_json, sha256_file, write_json
from openmiro.core.errors import OpenMiroError

MODEL_MARKER = f"made{RECORD_SUFFIX}"


def seal_model(folder: Path, made: Mapping[str, Any]) -> None:
    """Writes the marker: how the model was made, and its files' checksums. Its presence says that the rest is whole."""
    files = {p.relative_to(folder).as_posix(): sha256_file(p) for p in _files(folder)}
    write_json(folder / MODEL_MARKER, {"made": dict(made), "files": files})


def damaged_model_files(folder: Path) -> dict[str, str]:
    """What is wrong with a sealed folder, by file; empty where it is as it was written."""
    try:
        sealed = read_json(folder / MODEL_MARKER)["files"]
        names = {str(name): str(digest) for name, digest in sealed.items()}
    except (OpenMiroError, KeyError, TypeError, AttributeError):
        return {MODEL_MARKER: "is missing or damaged, so that nothing vouches for this model"}
    found = {}
    for name, digest in sorted(names.items()):
        path = folder / name
        if not path.is_file():
            found[name] = "is gone"
        elif sha256_file(path) != digest:
            found[name] = "is damaged: its checksum differs"
    return found


def _files(folder: Path) -> list[Path]:
    hidden = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return [p for p in hidden if p.name != MODEL_MARKER and not p.name.startswith(".")]
