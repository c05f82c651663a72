import json

import pytest
import torch
from PIL import Image, PngImagePlugin
from tests.unit.pipeline.build import tiny_pipeline

from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError
from openmiro.pipeline import read_png


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def test_a_picture_can_be_drawn_again_from_its_file(pipe, tmp_path):
    first = pipe(
        "a red square",
        negative_prompt="zwei Würfel „quer“\n🎲",
        reward_targets={"aesthetic": 0.8, "sharpness": 1 / 3},
        guidance_scale=2.5,
        guidance_interval=(0.1, 0.9),
        seeds=[123],
        solver="heun",
        num_inference_steps=4,
    )
    (path,) = first.save(tmp_path / "out")
    metadata = read_png(path)
    assert metadata == first.metadata[0]
    assert metadata.targets["aesthetic"] == 0.8
    assert metadata.model == pipe.fingerprint()
    again = pipe(**metadata.call_arguments())
    assert again[0].tobytes() == Image.open(path).tobytes()
    assert again.metadata[0] == metadata


def test_defaults_are_written_out_so_that_a_changed_preset_does_not_matter(pipe, tmp_path):
    (path,) = pipe("two rings", seeds=[9]).save(tmp_path)
    other = tiny_pipeline(sampling=None)
    assert other(**read_png(path).call_arguments())[0].tobytes() == Image.open(path).tobytes()


def test_files_are_named_by_number_prompt_and_seed_only(pipe, tmp_path):
    prompts = ["../../etc/passwd", "", "A " + "very " * 40 + "long one"]
    paths = pipe(prompts, seeds=[1, 2, 3]).save(tmp_path, upscale=3)
    assert [p.parent for p in paths] == [tmp_path] * 3
    assert [p.name for p in paths[:2]] == ["000-etc-passwd-1.png", "001-picture-2.png"]
    assert len(paths[2].name) < 60
    assert Image.open(paths[0]).size == (48, 48)
    assert read_png(paths[0]).prompt == prompts[0]
    assert not list(tmp_path.glob(".tmp-*"))


def test_all_but_latents_can_be_saved(pipe, tmp_path):
    for kind in ("np", "pt"):
        assert len(pipe("two rings", seeds=[1], output_type=kind).save(tmp_path / kind)) == 1
    with pytest.raises(ConfigError, match="decode them first"):
        pipe("two rings", seeds=[1], output_type="latent").save(tmp_path)


def test_a_picture_from_latents_has_no_seed_to_repeat(pipe, tmp_path):
    out = pipe("two rings", latents=torch.randn(1, 6, 4, 4))
    (path,) = out.save(tmp_path)
    assert path.name == "000-two-rings.png"
    with pytest.raises(ConfigError, match="given latents"):
        read_png(path).call_arguments()


def test_a_solver_named_by_a_file_is_not_imported(pipe):
    metadata = pipe("two rings", seeds=[1]).metadata[0].model_copy(update={"solver": "os:system"})
    with pytest.raises(ConfigError, match="unknown solver"):
        metadata.call_arguments()


def chunk(text):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("openmiro", text)
    return info


@pytest.mark.parametrize("text", ["{", "[]", '{"prompt": 3}', json.dumps({"prompt": "a", "run": "rm"}), "[" * 10_000])
def test_damaged_metadata_is_refused(tmp_path, text):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=chunk(text))
    with pytest.raises(DamagedFileError, match="damaged"):
        read_png(tmp_path / "a.png")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError):
        read_png(tmp_path / "none.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    with pytest.raises(DamagedFileError, match="not written by openmiro"):
        read_png(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DamagedFileError, match="not a PNG"):
        read_png(tmp_path / "text.png")
