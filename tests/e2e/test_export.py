"""A trained run as an export folder, and its pictures as files."""

import pytest
import torch
from PIL import Image
from tests.e2e.commands import succeed

from openmiro.pipeline import MiroPipeline, read_png


@pytest.fixture(scope="module")
def trained(lab_run):
    return MiroPipeline.from_pretrained(lab_run)


def test_a_run_exports_and_loads_with_identical_pictures(trained, tmp_path):
    again = MiroPipeline.from_pretrained(trained.save_pretrained(tmp_path / "export"))
    for preset in trained.sampling.names:
        arguments = {"preset": preset, "seeds": [1], "num_inference_steps": 4, "output_type": "pt"}
        first, second = (pipe("a red square", **arguments).images for pipe in (trained, again))
        assert torch.equal(first, second), preset
    assert again.levels == trained.levels
    assert again.levels is not None


def test_raw_targets_use_the_levels_that_the_run_was_trained_with(trained):
    raw = trained.levels.inverse("sharpness", 1.0)
    out = trained("a red square", reward_targets={"sharpness": raw}, reward_units="raw", num_inference_steps=2)
    assert out.metadata[0].targets == {"sharpness": 1.0}


def test_a_picture_of_the_command_line_can_be_drawn_again(lab_run, trained, tmp_path):
    succeed(
        "sample", lab_run, "a red square", "--target", "aesthetic=0.9", "--seed", 7, "--steps", 4, "--out", tmp_path
    )
    (path,) = tmp_path.glob("*.png")
    metadata = read_png(path)
    assert (metadata.seed, metadata.targets, metadata.model) == (7, {"aesthetic": 0.9}, trained.fingerprint())
    assert trained(**metadata.call_arguments())[0].tobytes() == Image.open(path).tobytes()
