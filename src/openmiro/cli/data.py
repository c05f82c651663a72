"""`openmiro data`: make, verify and look at datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openmiro.cli.options import DatasetArgument, SeedOption, WorkersOption

app = typer.Typer(no_args_is_help=True, help="Make, verify and look at datasets.")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder for the tar shards.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many picture-caption pairs.")] = 20_000,
    resolution: Annotated[int, typer.Option(min=16, help="Side of the pictures, in pixels.")] = 24,
    pairs_per_shard: Annotated[int, typer.Option(min=1, help="Pairs in one tar.")] = 2_000,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
) -> None:
    """Draw a lab dataset: colored shapes of mixed quality with captions of mixed truth, as webdataset tars.

    Example: openmiro data synth runs/lab/shards --pairs 2000
    """
    import os

    from openmiro.lab.scenes import LabSettings
    from openmiro.lab.shards import synthesize

    paths = synthesize(
        out,
        num_pairs=pairs,
        seed=seed,
        settings=LabSettings(resolution=resolution),
        pairs_per_shard=pairs_per_shard,
        num_workers=workers if workers is not None else os.cpu_count() or 1,
    )
    typer.echo(
        f"{pairs} pairs in {len(paths)} shards: {out}\nnext: openmiro annotate {out} --out DATASET --rewards lab"
    )


@app.command()
def verify(dataset: DatasetArgument) -> None:
    """Check every file of a dataset against its record and name the damaged ones.

    Example: openmiro data verify datasets/photos
    """
    from openmiro.data.verify import verify as run

    findings = run(dataset)
    for finding in findings:
        typer.echo(str(finding), err=True)
    if findings:
        typer.echo(f"{len(findings)} damaged or missing files in {dataset}", err=True)
        raise typer.Exit(2)
    typer.echo(f"every file of {dataset} is as it was written")


@app.command()
def stats(
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for figures. Default: DATASET/stats.")] = None,
) -> None:
    """Print and draw the distribution of every reward and how the rewards correlate.

    Example: openmiro data stats datasets/photos
    """
    from rich.console import Console
    from rich.table import Table

    from openmiro.data.stats import dataset_stats
    from openmiro.report.figures import draw_dataset_stats

    found = dataset_stats(dataset)
    table = Table(title=f"rewards of {dataset}", title_justify="left")
    for column in ("reward", "column", "known", "missing", "min", "p10", "median", "p90", "max"):
        table.add_column(column, justify="left" if column in ("reward", "column") else "right")
    for s in found.rewards:
        numbers = (f"{x:.4g}" for x in (s.minimum, s.p10, s.median, s.p90, s.maximum))
        table.add_row(s.reward, s.column, str(s.num_known), str(s.num_missing), *numbers)
    console = Console()
    console.print(table)
    console.print(found.accounting())
    for path in draw_dataset_stats(found, out or dataset / "stats"):
        console.print(f"drew {path}")
