"""`openmiro levels`: raw scores to ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openmiro.cli.options import DatasetArgument

app = typer.Typer(no_args_is_help=True, help="Turn raw scores into levels, the ranks that models are conditioned on.")


@app.command()
def fit(
    dataset: DatasetArgument,
    bins: Annotated[int, typer.Option(min=2, help="Equal-population bins per reward.")] = 64,
) -> None:
    """Fit the level table of every reward in a dataset: exact quantiles, ties keep their mass.

    Example: openmiro levels fit datasets/photos
    """
    from openmiro.annotate import fit_dataset_levels

    tables = fit_dataset_levels(dataset, num_bins=bins)
    _print_tables(tables, f"levels of {dataset}")
    typer.echo(f"wrote {dataset / 'levels.json'}")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A levels.json, a dataset, or a checkpoint.")],
) -> None:
    """Print level tables: what raw score stands behind which level, and where the scores came from.

    Example: openmiro levels show datasets/photos
    """
    from openmiro.rewards.levels import LevelTables

    names = ("levels.json", "reward_levels.json")
    file = next((path / name for name in names if (path / name).exists()), path / names[0]) if path.is_dir() else path
    _print_tables(LevelTables.load(file), str(file))


def _print_tables(tables, title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    asked = (0.0, 0.25, 0.5, 0.75, 1.0)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("reward", no_wrap=True)
    for column in ("scores", "bad", *(f"at {a:g}" for a in asked)):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit")
    for t in tables.tables:
        raws = [f"{t.inverse(a):.3g}" for a in asked] if t.num_values else ["-"] * len(asked)
        table.add_row(t.spec.name, str(t.num_values), str(t.num_nan + t.num_inf), *raws, t.spec.unit)
    Console().print(table)
