"""Prompt sets: GenEval's and PartiPrompts from their own files, plain text lists, and the lab's held-out prompts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from openmiro.core.config import Config
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError, UnknownNameError
from openmiro.lab.prompts import Prompt as LabPrompt
from openmiro.lab.prompts import prompt_set as lab_prompts

MAX_PROMPT_CHARS = 10_000
_P = TypeVar("_P")


class GenEvalObject(Config):
    """One entry of GenEval's include or exclude list.

    Attributes:
        label: name of the class ("class" in the file).
        count: at least so many; in an exclude list so many or more fail.
        color: that it must have.
        relation, relative_to: where it must lie as seen from that entry of the include list.
    """

    label: str
    count: int = 1
    color: str | None = None
    relation: Literal["left of", "right of", "above", "below"] | None = None
    relative_to: int | None = None


@dataclass(frozen=True)
class GenEvalPrompt:
    """A GenEval prompt with its checks."""

    text: str
    tag: str
    include: tuple[GenEvalObject, ...]
    exclude: tuple[GenEvalObject, ...] = ()


@dataclass(frozen=True)
class PartiPrompt:
    """A PartiPrompts prompt; its tag is its category."""

    text: str
    tag: str
    challenge: str
    note: str = ""


@dataclass(frozen=True)
class PlainPrompt:
    """A prompt without any check."""

    text: str
    tag: str = ""


AnyPrompt = LabPrompt | GenEvalPrompt | PartiPrompt | PlainPrompt
"""All have `.text` and `.tag`."""


def load_prompts(name_or_path: str | Path, num_per_tag: int = 50, seed: int = 0) -> list[AnyPrompt]:
    """``"lab"``, or a file: GenEval's .jsonl, PartiPrompts' .tsv, or .txt with one prompt a line.

    Args:
        num_per_tag, seed: of the lab's prompts.

    Raises:
        MissingFileError: no such file.
        UnknownNameError: neither "lab" nor a file of these kinds.
        DamagedFileError: the file is not what its name says; the message names the line.
    """
    if name_or_path == "lab":
        return [*lab_prompts(num_per_tag, seed)]
    path = Path(name_or_path)
    readers: dict[str, Callable[[Path], list]] = {".jsonl": read_geneval, ".tsv": read_parti, ".txt": read_plain}
    if path.suffix.lower() not in readers:
        raise UnknownNameError("prompt set", str(name_or_path), ["lab", *(f"FILE{s}" for s in readers)])
    return readers[path.suffix.lower()](path)


def read_geneval(path: Path) -> list[GenEvalPrompt]:
    """GenEval's metadata: one JSON object a line with tag, prompt, include and, where needed, exclude.

    Raises:
        MissingFileError, DamagedFileError: as `load_prompts`.
    """
    prompts = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
            prompt = GenEvalPrompt(
                text=_checked_text(record["prompt"], where),
                tag=str(record["tag"]),
                include=tuple(_geneval_object(o, where) for o in record["include"]),
                exclude=tuple(_geneval_object(o, where) for o in record.get("exclude", [])),
            )
        except (json.JSONDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(f"{where} is not a GenEval prompt: {error!r}") from None
        if not prompt.include:
            raise DamagedFileError(f"{where} asks for nothing: its include list is empty")
        prompts.append(prompt)
    return _not_empty(prompts, path)


def _geneval_object(record: dict, where: str) -> GenEvalObject:
    values = {("label" if key == "class" else key): value for key, value in record.items()}
    position = values.pop("position", None)
    if position is not None:
        try:
            values["relation"], values["relative_to"] = position
        except (TypeError, ValueError):
            raise DamagedFileError(f"{where}: a position is a relation and an index (given: {position!r})") from None
    try:
        return GenEvalObject.parse(values, where)
    except ConfigError as error:
        raise DamagedFileError(str(error)) from None


def read_parti(path: Path) -> list[PartiPrompt]:
    """PartiPrompts: tab-separated with the header Prompt, Category, Challenge, Note; quotes are plain characters.

    Raises:
        MissingFileError, DamagedFileError: as `load_prompts`.
    """
    lines = _lines(path)
    table = csv.reader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(table, [])
    if header[:3] != ["Prompt", "Category", "Challenge"]:
        raise DamagedFileError(f"{path} has no header 'Prompt, Category, Challenge' (found: {header})")
    prompts = []
    for (number, _), row in zip(lines[1:], table, strict=True):
        where = f"{path}, line {number}"
        if not 3 <= len(row) <= 4:
            raise DamagedFileError(f"{where} has {len(row)} columns instead of 4")
        prompts.append(PartiPrompt(_checked_text(row[0], where), row[1], row[2], row[3] if len(row) > 3 else ""))
    return _not_empty(prompts, path)


def read_plain(path: Path) -> list[PlainPrompt]:
    """One prompt a line; empty lines are passed over.

    Raises:
        MissingFileError, DamagedFileError: as `load_prompts`.
    """
    prompts = [PlainPrompt(_checked_text(line.strip(), f"{path}, line {n}")) for n, line in _lines(path)]
    return _not_empty(prompts, path)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that are not blank."""
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: give a file of prompts, or 'lab'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not UTF-8 text: {error}") from None
    return [(i, line.rstrip("\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip()]


def _checked_text(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_PROMPT_CHARS:
        raise DamagedFileError(f"{where}: a prompt is a text of 1 to {MAX_PROMPT_CHARS} characters")
    return text


def _not_empty(prompts: list[_P], path: Path) -> list[_P]:
    if not prompts:
        raise DamagedFileError(f"{path} holds no prompts")
    return prompts
