import pytest
import torch
from diffusers import AutoencoderKL

from openmiro.codecs import build_codec, load_codec
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError, ProvenanceError


def tiny_autoencoder(**changes):
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 16,
        "scaling_factor": 0.13025,
    }
    return AutoencoderKL(**{**settings, **changes})


@pytest.fixture
def folder(tmp_path):
    tiny_autoencoder().save_pretrained(tmp_path / "tiny-vae")
    return tmp_path / "tiny-vae"


def raw_posterior(folder, pixels):
    model = AutoencoderKL.from_pretrained(folder).eval()
    with torch.no_grad():
        return model, model.encode(pixels).latent_dist


def test_sdxl_latents_are_normalized_channel_by_channel(folder):
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    model, posterior = raw_posterior(folder, pixels)
    codec = build_codec("kl", {"source": str(folder)})
    mean, std = codec.encode(pixels)
    scale = 0.5 / torch.tensor([7.8518, 5.8465, 6.8716, 5.3140]).reshape(4, 1, 1)
    bias = -torch.tensor([-0.3480, 0.3754, 0.0419, 2.4331]).reshape(4, 1, 1) * scale
    torch.testing.assert_close(mean, posterior.mean * scale + bias)
    torch.testing.assert_close(std, posterior.std * scale)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(mean), model.decode(posterior.mean).sample.clamp(-1, 1))
    assert codec.latent_shape(16) == (4, 8, 8) == tuple(mean.shape[1:])
    assert codec.name == "kl-tiny-vae"


def test_other_autoencoders_use_their_scaling_factor_and_shift(tmp_path):
    tiny_autoencoder(scaling_factor=0.36, shift_factor=0.12).save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    _, posterior = raw_posterior(tmp_path, pixels)
    mean, std = build_codec("kl", {"source": str(tmp_path)}).encode(pixels)
    torch.testing.assert_close(mean, (posterior.mean - 0.12) * 0.36)
    torch.testing.assert_close(std, posterior.std * 0.36)


def test_statistics_of_the_configuration_are_used_where_it_has_them(tmp_path):
    stats = {"latents_mean": (0.1, 0.2, 0.3, 0.4), "latents_std": (1.0, 2.0, 3.0, 4.0)}
    tiny_autoencoder(scaling_factor=0.5, **stats).save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    _, posterior = raw_posterior(tmp_path, pixels)
    expected = (
        (posterior.mean - torch.tensor(stats["latents_mean"]).reshape(4, 1, 1))
        * 0.5
        / torch.tensor(stats["latents_std"]).reshape(4, 1, 1)
    )
    torch.testing.assert_close(build_codec("kl", {"source": str(tmp_path)}).encode(pixels)[0], expected)


def test_folder_round_trip_carries_the_weights_along(folder, tmp_path):
    codec = build_codec("kl", {"source": str(folder)})
    codec.save(tmp_path / "saved")
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    expected, name, print_ = codec.encode(pixels)[0], codec.name, codec.fingerprint()
    (folder / "config.json").unlink()
    again = load_codec(tmp_path / "saved")
    assert str(folder) not in (tmp_path / "saved" / "codec.json").read_text()
    assert (again.name, again.fingerprint()) == (name, print_)
    assert torch.equal(again.encode(pixels)[0], expected)


def test_changed_weights_are_noticed(folder, tmp_path):
    build_codec("kl", {"source": str(folder), "keep": "reference"}).save(tmp_path / "saved")
    model = tiny_autoencoder()
    torch.nn.init.ones_(model.quant_conv.bias)
    model.save_pretrained(folder)
    with pytest.raises(ProvenanceError, match="not the one"):
        load_codec(tmp_path / "saved").encode(torch.zeros(1, 3, 16, 16))


def test_bfloat16_runs_and_float16_is_refused_with_the_reason(folder):
    mean, std = build_codec("kl", {"source": str(folder), "dtype": "bfloat16"}).encode(torch.zeros(1, 3, 16, 16))
    assert mean.dtype == std.dtype == torch.float32
    with pytest.raises(ConfigError, match=r"black pictures.*bfloat16 or float32"):
        build_codec("kl", {"source": str(folder), "dtype": "float16"})


def test_pickled_weights_are_never_read(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny_autoencoder().state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(DamagedFileError, match="safetensors"):
        build_codec("kl", {"source": str(folder)}).encode(torch.zeros(1, 3, 16, 16))


def test_bad_sources_and_sizes(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match="not in the local cache"):
        build_codec("kl", {"source": "nobody/no-such-vae"}).latent_shape(16)
    with pytest.raises(MissingFileError, match="neither a folder"):
        build_codec("kl", {"source": "/no/such/folder"}).latent_shape(16)
    with pytest.raises(ConfigError, match="multiple of 2"):
        build_codec("kl", {"source": str(folder)}).latent_shape(15)
    with pytest.raises(ConfigError, match="channel_scale"):
        build_codec("kl", {"source": str(folder), "normalization": "channels"})
