import pytest
import torch

from openmiro.codecs import build_codec, load_codec
from openmiro.codecs.image import PixelCodec
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError, UnknownNameError


def test_pixels_come_back_and_their_latents_are_scaled(tmp_path):
    codec = build_codec("pixel", {"scale": 1.5})
    pixels = torch.rand(2, 3, 6, 6) * 2 - 1
    latents, std = codec.encode(pixels)
    assert std is None
    assert not codec.needs_fit
    torch.testing.assert_close(latents, pixels * 1.5)
    torch.testing.assert_close(codec.decode(latents), pixels)
    assert codec.latent_shape(6) == (3, 6, 6)
    codec.save(tmp_path)
    assert load_codec(tmp_path).fingerprint() == codec.fingerprint() != PixelCodec().fingerprint()


def test_decoded_pixels_stay_in_range():
    assert PixelCodec().decode(torch.tensor([[[[9.0]], [[-9.0]], [[0.0]]]])).flatten().tolist() == [1, -1, 0]


def test_names_that_are_no_codec_list_the_choices(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'pixel'"):
        load_codec("pixl")
    with pytest.raises(UnknownNameError, match="patch"):
        build_codec("vae")
    with pytest.raises(MissingFileError, match=r"neither codec\.json"):
        load_codec(tmp_path)
    with pytest.raises(ConfigError, match="scale"):
        build_codec("pixel", {"scale": 0})


@pytest.mark.parametrize("text", ["", "[]", '{"kind": 3}', '{"kind": "pixel", "settings": []}', "{"])
def test_a_damaged_header_is_refused(tmp_path, text):
    (tmp_path / "codec.json").write_text(text)
    with pytest.raises(DamagedFileError):
        load_codec(tmp_path)
