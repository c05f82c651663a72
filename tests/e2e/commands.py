"""Helpers: the command line as a user runs it, in this process so that heavy packages are imported once."""

import contextlib
import io
import sys
from dataclasses import dataclass

from openmiro.cli.main import run


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def invoke(*args) -> Outcome:
    """Runs `openmiro ARGS...`; any exception but an exit is a traceback that the user would see, and fails the test."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["openmiro", *map(str, args)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*args) -> Outcome:
    outcome = invoke(*args)
    assert outcome.code == 0, f"openmiro {' '.join(map(str, args))} failed:\n{outcome.out}\n{outcome.err}"
    return outcome


TINY = ("images=96", "batch_size=16", "model.width=32", "model.depth=1", "model.heads=2", "samples.every_images=0")
"""A run of six steps."""
