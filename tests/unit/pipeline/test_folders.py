import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.pipeline.build import plain_pipeline, random_denoiser, tiny_pipeline

from openmiro.core.artifact import sha256_file, write_json
from openmiro.core.errors import CheckpointError
from openmiro.pipeline import MiroPipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture
def export(pipe, tmp_path):
    return pipe.save_pretrained(tmp_path / "export")


def picture(pipe):
    return pipe("a red square", reward_targets={}, seeds=[5], output_type="latent").images


def write_checkpoint(folder, pipe, averaged=None):
    """A checkpoint as training lays it out, with `averaged` weights or without."""
    folder.mkdir(parents=True)
    save_file(pipe.denoiser.state_dict(), folder / "denoiser.safetensors")
    if averaged is not None:
        save_file(averaged.state_dict(), folder / "ema.safetensors")
    save_file({"x": torch.zeros(3)}, folder / "optimizer.safetensors")
    model = {
        "denoiser": pipe.denoiser.config.dump(),
        "rewards": pipe.rewards.dump(),
        "resolution": pipe.resolution,
        "sampling": pipe.sampling.dump(),
    }
    write_json(folder / "model.json", model)
    pipe.levels.save(folder / "levels.json")
    pipe.codec.save(folder / "codec")
    pipe.text_encoder.save(folder / "text_encoder")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    write_json(folder / "COMPLETE", {p.relative_to(folder).as_posix(): sha256_file(p) for p in files})
    return folder


def test_export_round_trip_gives_the_identical_picture(pipe, export):
    again = MiroPipeline.from_pretrained(export)
    assert torch.equal(picture(again), picture(pipe))
    assert again.fingerprint() == pipe.fingerprint()
    assert (again.rewards, again.levels, again.sampling) == (pipe.rewards, pipe.levels, pipe.sampling)
    assert again.resolution == pipe.resolution


def test_export_is_laid_out_as_diffusers_does(export):
    files = {p.relative_to(export).as_posix() for p in export.rglob("*") if p.is_file()}
    assert files == {
        "model_index.json",
        "README.md",
        "reward_levels.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "codec/codec.json",
        "codec/weights.safetensors",
        "text_encoder/encoder.json",
    }
    index = json.loads((export / "model_index.json").read_text())
    assert index["_class_name"] == "MiroPipeline"
    card = (export / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: openmiro\n")
    assert "| sharpness |" in card
    assert "| strong | alignment 1 |" in card


def test_exporting_twice_gives_the_same_bytes_and_spares_other_folders(pipe, export, tmp_path):
    first = {p: p.read_bytes() for p in export.rglob("*") if p.is_file()}
    pipe.save_pretrained(export)
    assert first == {p: p.read_bytes() for p in export.rglob("*") if p.is_file()}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(CheckpointError, match="other files"):
        pipe.save_pretrained(tmp_path / "other")


def test_a_pipeline_without_rewards_and_levels_round_trips(tmp_path):
    pipe = plain_pipeline()
    pipe.save_pretrained(tmp_path / "export")
    again = MiroPipeline.from_pretrained(tmp_path / "export")
    assert again.levels is None
    assert torch.equal(picture(again), picture(pipe))


def test_loading_leaves_torchs_random_numbers_alone(export):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    MiroPipeline.from_pretrained(export)
    assert torch.equal(torch.rand(2), expected)


def test_checkpoints_are_read_with_their_averaged_weights(pipe, tmp_path):
    averaged = random_denoiser(3, pipe.text_encoder.vocabulary_size, seed=9)
    folder = write_checkpoint(tmp_path / "step-000010", pipe, averaged)
    loaded = MiroPipeline.from_pretrained(folder)
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(loaded.denoiser.state_dict()[name], tensor)
    assert loaded.levels == pipe.levels
    plain = MiroPipeline.from_pretrained(write_checkpoint(tmp_path / "step-000020", pipe))
    assert torch.equal(picture(plain), picture(pipe))


def test_a_run_folder_stands_for_its_latest_finished_checkpoint(pipe, tmp_path):
    other = tiny_pipeline(seed=4)
    write_checkpoint(tmp_path / "checkpoints" / "step-000010", other)
    write_checkpoint(tmp_path / "checkpoints" / "step-000020", pipe)
    (tmp_path / "latest").write_text("checkpoints/step-000010\n")
    assert torch.equal(picture(MiroPipeline.from_pretrained(tmp_path)), picture(other))
    (tmp_path / "latest").write_text("../../../etc\n")
    assert torch.equal(picture(MiroPipeline.from_pretrained(tmp_path)), picture(pipe))
    (tmp_path / "checkpoints" / "step-000020" / "COMPLETE").unlink()
    (tmp_path / "latest").unlink()
    assert torch.equal(picture(MiroPipeline.from_pretrained(tmp_path)), picture(other))
    shutil.rmtree(tmp_path / "checkpoints" / "step-000010")
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        MiroPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["ema.safetensors", "codec/weights.safetensors", "levels.json", "model.json"])
def test_a_damaged_checkpoint_is_named(pipe, tmp_path, name):
    folder = write_checkpoint(tmp_path / "step-000010", pipe, pipe.denoiser)
    content = bytearray((folder / name).read_bytes())
    content[-20] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        MiroPipeline.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        MiroPipeline.from_pretrained(folder)


def test_a_damaged_optimizer_does_not_keep_anyone_from_sampling(pipe, tmp_path):
    folder = write_checkpoint(tmp_path / "step-000010", pipe, pipe.denoiser)
    (folder / "optimizer.safetensors").unlink()
    assert torch.equal(picture(MiroPipeline.from_pretrained(folder)), picture(pipe))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("registers"), "registers is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not part"),
        (lambda s: s.update(registers=torch.zeros(9, 9)), r"registers has the shape \[9, 9\] instead of"),
    ],
)
def test_weights_must_fit_exactly(export, change, message):
    path = export / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=message):
        MiroPipeline.from_pretrained(export)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def edit(key, value):
    def change(path):
        values = json.loads(path.read_text())
        values[key] = value
        path.write_text(json.dumps(values))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("transformer/diffusion_pytorch_model.safetensors", truncate, "not a whole safetensors"),
        ("transformer/diffusion_pytorch_model.safetensors", lambda p: p.unlink(), "does not exist"),
        ("transformer/config.json", edit("widht", 3), "Did you mean 'width'"),
        ("transformer/config.json", edit("kind", "unet"), "unknown denoiser 'unet'"),
        ("transformer/config.json", edit("kind", "os:system"), "unknown denoiser 'os:system'"),
        ("model_index.json", edit("_class_name", "StableDiffusionPipeline"), "holds a StableDiffusionPipeline"),
        ("model_index.json", edit("resolution", 32), "at 32 pixels"),
        ("model_index.json", lambda p: p.write_text("{"), "not valid JSON"),
        ("model_index.json", lambda p: p.write_text("[]"), "must hold an object"),
        ("reward_levels.json", lambda p: p.write_text("{}"), "not a file of level tables"),
        ("model_index.json", edit("sampling", {"default": {"solver": "os:system"}}), "unknown solver 'os:system'"),
        ("codec/codec.json", edit("kind", "os:system"), "unknown image codec 'os:system'"),
        ("codec/codec.json", lambda p: p.unlink(), "no image codec"),
        ("text_encoder/encoder.json", edit("kind", "tokens"), "unknown text encoder 'tokens'"),
    ],
)
def test_damaged_exports_are_refused_with_the_reason(export, name, damage, message):
    damage(export / name)
    with pytest.raises(CheckpointError, match=message):
        MiroPipeline.from_pretrained(export)


def test_folders_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a folder"):
        MiroPipeline.from_pretrained(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="neither a run folder"):
        MiroPipeline.from_pretrained(tmp_path)
