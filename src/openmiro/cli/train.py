"""`openmiro train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or a YAML file; `--list` lists the shipped.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as images=200000 seed=1.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Dataset folder, as data.dataset=...")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder. Default: runs/RECIPE.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the resolved recipe and stop.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped recipes and stop.")] = False,
) -> None:
    """Train a model. Stopped or killed and run again, it goes on exactly where it was.

    SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint and exit with code 75. Works under torchrun as it is.

    Example: openmiro train lab-miro --data runs/lab/dataset images=100000
    """
    from openmiro.train.recipe import list_recipes, load_recipe

    if list_ or not recipe:
        typer.echo("\n".join(list_recipes()))
        raise typer.Exit(0 if list_ else 2)
    changes = [*(overrides or []), *([f"data.dataset={data}"] if data else [])]
    resolved = load_recipe(recipe, changes)
    if show:
        typer.echo(resolved.to_yaml())
        raise typer.Exit
    from openmiro.train.loop import train as run

    result = run(resolved, out or Path("runs") / resolved.name)
    typer.echo(result.summary())
