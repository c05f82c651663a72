"""`openmiro annotate` and `openmiro encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openmiro.cli.options import DatasetArgument, WorkersOption, split_names


def annotate(
    source: Annotated[Path, typer.Argument(help="A tar, a folder of tars or pictures, a CSV or Parquet table.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The dataset folder to make or to go on with.")],
    rewards: Annotated[
        str,
        typer.Option(help="Rewards or sets, separated by commas: lab, classical, contrast, pkg.mod:Reward."),
    ] = "classical",
    captions: Annotated[
        Path | None, typer.Option(help="A table (CSV, Parquet, JSONL) of synthetic captions, joined by key.")
    ] = None,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Fail at the end where a larger share of rows cannot be used.")
    ] = 0.05,
    workers: WorkersOption = None,
) -> None:
    """Read every pair once, account for every row, and score it with every reward.

    Scores go to the dataset folder, one file per reward and shard; the source stays as it is. Adding a reward later
    adds files. Killed and run again, it goes on where it was.

    Example: openmiro annotate photos/ --out datasets/photos --rewards classical
    """
    from openmiro.annotate import annotate as run

    report = run(
        source,
        out,
        rewards=split_names(rewards),
        captions_table=captions,
        num_workers=workers,
        max_bad_share=max_bad_share,
    )
    typer.echo(report.summary())


def encode(
    dataset: DatasetArgument,
    codec: Annotated[
        str, typer.Option(help="patch4x12, pixel, or an AutoencoderKL's repository or folder.")
    ] = "patch4x12",
    text: Annotated[str, typer.Option(help="words, or a transformers encoder's repository or folder.")] = "words",
    resolution: Annotated[int, typer.Option(min=8, help="Side of the square training pictures, in pixels.")] = 64,
    workers: WorkersOption = None,
) -> None:
    """Turn pictures into latents and captions into tokens, once.

    Example: openmiro encode datasets/photos --resolution 64
    """
    from openmiro.annotate import encode as run

    report = run(dataset, codec=codec, text_encoder=text, resolution=resolution, num_workers=workers)
    typer.echo(report.summary())
