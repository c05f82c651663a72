"""The `openmiro` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from openmiro.cli import annotate, data, doctor, levels, quickstart, report, sample, train
from openmiro.core.errors import EXIT_INTERRUPTED, OpenMiroError

app = typer.Typer(
    name="openmiro",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a text-to-image model on every picture you have, and steer it by the rewards you choose.\n\n"
    "The stages, in order: [bold]annotate[/bold] (score every pair), [bold]encode[/bold] (latents and text), "
    "[bold]levels fit[/bold] (scores to ranks), [bold]train[/bold], [bold]sample[/bold]. "
    "Any stage can be killed and run again: it goes on where it was.\n\n"
    "Start with: [cyan]openmiro quickstart[/cyan] (everything on a small procedural world, about 10 minutes).",
)
app.add_typer(data.app, name="data")
app.command("annotate")(annotate.annotate)
app.command("encode")(annotate.encode)
app.add_typer(levels.app, name="levels")
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("report")(report.report)
app.command("quickstart")(quickstart.quickstart)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"openmiro {version('openmiro')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None: ...


def run() -> None:
    """Runs the command line; a user's mistake is a message and an exit code, never a traceback."""
    # Idle OpenMP threads spin by default. On a machine that also runs something else, threads that wait for each other
    # while spinning slow small models down by factors of up to 60. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except OpenMiroError as error:
        typer.echo(f"{typer.style('error', fg='red', bold=True)}: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("stopped. What was committed is kept: run the same command again to go on.", err=True)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    run()
