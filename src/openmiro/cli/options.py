"""Options that several commands share, so that one idea has one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DatasetArgument = Annotated[Path, typer.Argument(help="A dataset folder, made by `openmiro annotate`.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, help="Worker processes; 0 works in this one. Default: one per core.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Everything random is a function of this number.")]


def split_names(text: str) -> list[str]:
    """Names separated by commas, blanks around them ignored."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_pairs(pairs: list[str], option: str) -> dict[str, str]:
    """`["aesthetic=0.8"]` as a mapping.

    Raises:
        ConfigError: a pair has no equals sign, or a name is given twice.
    """
    from openmiro.core.errors import ConfigError

    result: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ConfigError(f"{option} takes name=value, such as {option} aesthetic=0.8 (given: '{pair}')")
        if name in result:
            raise ConfigError(f"{option} names '{name}' twice")
        result[name] = value
    return result
