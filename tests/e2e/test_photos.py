"""The whole pipeline on real photos: the same commands as for anything else."""

from pathlib import Path

import pytest
from PIL import Image
from tests.e2e.commands import succeed

from openmiro.pipeline import read_png


@pytest.mark.slow
def test_photos_from_shard_to_steered_picture(real_shard, tmp_path):
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    accounted = succeed("annotate", real_shard, "--out", dataset, "--rewards", "classical", "--workers", 0).out
    assert "32" in accounted
    succeed("encode", dataset, "--resolution", 64, "--workers", 0)
    succeed("levels", "fit", dataset)
    succeed("data", "verify", dataset)
    succeed("data", "stats", dataset)
    succeed("train", "photos-tiny", "--data", dataset, "--out", run)
    arguments = ("sample", run, "a photo of bread", "--out", tmp_path / "samples", "--steps", 8)
    printed = succeed(*arguments, "--target", "colorfulness=0.9").out
    with Image.open(printed.strip().splitlines()[-1]) as picture:
        assert picture.size == (64, 64)
    drawn = read_png(Path(printed.strip().splitlines()[-1]))
    assert drawn.prompt == "a photo of bread"
    assert drawn.targets == {"colorfulness": 0.9}
    succeed("report", run)
    assert (run / "report.html").stat().st_size > 10_000
