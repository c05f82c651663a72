"""A small lab dataset and a tiny run, made once by the commands themselves."""

import pytest
from tests.e2e.commands import TINY, succeed


@pytest.fixture(scope="session")
def lab_dataset(tmp_path_factory):
    """A small lab dataset that went through every stage before training. Tests copy it before they change it."""
    root = tmp_path_factory.mktemp("lab")
    succeed("data", "synth", root / "shards", "--pairs", 96, "--pairs-per-shard", 48, "--workers", 0)
    succeed("annotate", root / "shards", "--out", root / "dataset", "--rewards", "lab", "--workers", 0)
    succeed("levels", "fit", root / "dataset")
    succeed("encode", root / "dataset", "--resolution", 24, "--workers", 0)
    return root / "dataset"


@pytest.fixture(scope="session")
def lab_run(lab_dataset, tmp_path_factory):
    """A lab-miro model trained for six steps."""
    out = tmp_path_factory.mktemp("run") / "lab-miro"
    succeed("train", "lab-miro", "--data", lab_dataset, "--out", out, *TINY)
    return out
