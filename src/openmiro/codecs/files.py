"""What codec and encoder folders have in common: a JSON file of settings, safetensors weights, a pinned source.

Nothing is ever unpickled: weights come from safetensors files only, and code beside weights is never executed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openmiro.core.artifact import atomic_path, read_json, write_json
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError

CODEC_FILE = "codec.json"
ENCODER_FILE = "encoder.json"
WEIGHTS_FILE = "weights.safetensors"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def write_header(path: Path, kind: str, settings: Mapping[str, Any]) -> None:
    """Writes ``{"kind": ..., "settings": {...}}``, the file by which a folder is recognized."""
    write_json(path, {"kind": kind, "settings": dict(settings)})


def read_header(path: Path) -> tuple[str, dict[str, Any]]:
    """Kind and settings of a folder.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: it is not such a file.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise DamagedFileError(f"{path} must hold an object with the keys 'kind' and 'settings'")
    settings = value.get("settings", {})
    if not isinstance(settings, dict):
        raise DamagedFileError(f"{path}: 'settings' must be an object")
    return value["kind"], settings


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, atomically; equal tensors give equal bytes."""
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in sorted(tensors.items())}, temporary)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: it is truncated or not a safetensors file.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise DamagedFileError(f"{path} is not a whole safetensors file: {error}") from None


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()[:16]


def slug(text: str) -> str:
    """A name that is safe as a folder name everywhere: the last path component, lower case, [a-z0-9.-] only."""
    last = re.split(r"[\\/]+", text.rstrip("\\/"))[-1]
    return re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.") or "unnamed"


def resolve_source(source: str, revision: str | None, patterns: Sequence[str], what: str) -> tuple[Path, str | None]:
    """The local folder of a folder or a Hub repository, and the repository's exact commit (None for a folder).

    Files other than `patterns` are not downloaded, so pickled weights never reach the disk. HF_HUB_OFFLINE and HF_HOME
    are respected.

    Raises:
        MissingFileError: neither a folder nor a repository that can be reached or found in the cache.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder, None
    if not _REPOSITORY.fullmatch(source):
        raise MissingFileError(f"{what} '{source}' is neither a folder nor the name of a Hub repository (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingFileError(
            f"{what} '{source}' could not be fetched from the Hub and is not in the local cache ({reason})."
            " Download it once with a connection, or give the path of a folder that holds it."
        ) from None
    return snapshot, snapshot.name if _COMMIT.fullmatch(snapshot.name) else revision


def torch_dtype(name: str, what: str, refused: Mapping[str, str] | None = None) -> torch.dtype:
    """`torch.float32` and its like by name.

    Args:
        name: "float32", "bfloat16" or "float16".
        what: whose type this is, for the message.
        refused: name -> why that type must not be used here.

    Raises:
        ConfigError: an unknown or a refused type.
    """
    if refused and name in refused:
        raise ConfigError(f"{what} cannot run in {name}: {refused[name]}. Use bfloat16 or float32.")
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in choices:
        raise ConfigError(f"{what}: unknown type '{name}'. Choices: {', '.join(choices)}.")
    return choices[name]
