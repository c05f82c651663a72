"""The command line as a user runs it, in this process so that heavy packages are imported once."""

import contextlib
import io
import sys
from dataclasses import dataclass

import pytest

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


@pytest.fixture(scope="session")
def lab_dataset(tmp_path_factory):
    """A small lab dataset that went through every stage before training. Tests copy it before they change it."""
    root = tmp_path_factory.mktemp("lab")
    succeed("data", "synth", root / "shards", "--pairs", 96, "--pairs-per-shard", 48, "--workers", 0)
    succeed("annotate", root / "shards", "--out", root / "dataset", "--rewards", "lab", "--workers", 0)
    succeed("levels", "fit", root / "dataset")
    succeed("encode", root / "dataset", "--resolution", 24, "--workers", 0)
    return root / "dataset"


TINY = ("images=96", "batch_size=16", "model.width=32", "model.depth=1", "model.heads=2", "samples.every_images=0")


@pytest.fixture(scope="session")
def lab_run(lab_dataset, tmp_path_factory):
    """A lab-miro model trained for six steps."""
    out = tmp_path_factory.mktemp("run") / "lab-miro"
    succeed("train", "lab-miro", "--data", lab_dataset, "--out", out, *TINY)
    return out
