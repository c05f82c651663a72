import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmiro.codecs import build_codec, load_codec
from openmiro.codecs.patches import PatchCodec, PatchSettings
from openmiro.core.errors import ConfigError, DamagedFileError, DataError, MissingFileError, UnknownNameError
from openmiro.core.types import ImageCodec


def pictures(num=48, side=24, seed=0):
    """Smooth random pictures in 8-bit levels, as [num, 3, side, side] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (smooth * 255).round() / 127.5 - 1


def psnr(a, b):
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def fitted(**changes):
    return build_codec("patch", changes).fit([pictures()])


@pytest.mark.parametrize(("side", "size"), [(24, 4), (64, 8)])
def test_latents_are_white_on_the_data_they_were_fitted_on(side, size):
    data = pictures(side=side)
    codec = build_codec("patch", {"patch_size": size, "num_channels": 10}).fit([data])
    latents, std = codec.encode(data)
    assert std is None
    assert latents.shape == (48, *codec.latent_shape(side)) == (48, 10, side // size, side // size)
    rows = latents.transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(rows.mean(1), torch.zeros(10, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(rows), torch.eye(10, dtype=torch.float64), atol=1e-2, rtol=0)


def test_all_components_reconstruct_exactly():
    data = pictures()
    codec = build_codec("patch", {"patch_size": 2, "num_channels": 12, "sharpen": False}).fit([data])
    torch.testing.assert_close(codec.decode(codec.encode(data)[0]), data, atol=1e-5, rtol=0)


def test_error_of_dropped_components_is_their_variance():
    # On its own data the mean squared error of the projection is the sum of the dropped eigenvalues.
    data = pictures()
    patches = torch.nn.functional.unfold(data, 4, stride=4).transpose(1, 2).flatten(0, 1).double()
    values = torch.linalg.eigvalsh(torch.cov(patches.T, correction=0)).flip(0)
    codec = build_codec("patch", {"patch_size": 4, "num_channels": 5, "sharpen": False}).fit([data])
    mean, weights = codec._weights["mean"], codec._weights
    again = (patches.float() - weights["mean"]) @ weights["encoder"].T @ weights["decoder"].T + mean
    error = (again - patches).double().square().sum(1).mean()
    assert float(error) == pytest.approx(float(values[5:].sum()), rel=1e-3)


@given(st.lists(st.integers(1, 47), max_size=6, unique=True), st.booleans())
@settings(max_examples=15, deadline=None)
def test_fit_does_not_depend_on_how_pictures_are_batched(cuts, sharpen):
    codec, data = build_codec("patch", {"sharpen": sharpen}), pictures()
    parts = torch.tensor_split(data, sorted(cuts))
    assert codec.fit(parts).fingerprint() == codec.fit([data]).fingerprint()


def test_fit_stops_at_its_number_of_pictures():
    data = pictures()
    limited = build_codec("patch", {"max_images": 20}).fit([data[:16], data[16:]])
    twenty = build_codec("patch", {"max_images": 20}).fit([data[:20]])
    assert limited.fingerprint() == twenty.fingerprint()


def test_sharpening_decoder_is_better_on_pictures_it_has_not_seen():
    held_out = pictures(seed=1)
    plain, sharp = fitted(num_channels=4, sharpen=False), fitted(num_channels=4)
    torch.testing.assert_close(plain.encode(held_out)[0], sharp.encode(held_out)[0])
    assert psnr(sharp.decode(sharp.encode(held_out)[0]), held_out) > psnr(
        plain.decode(plain.encode(held_out)[0]), held_out
    )


def test_sharpening_decoder_falls_back_on_the_plain_one_where_pictures_are_few():
    # Noise has nothing that neighbors could tell: whatever is learned from five pictures of it is overfitted.
    generator = torch.Generator().manual_seed(0)
    few, held_out = (torch.rand(n, 3, 24, 24, generator=generator) * 2 - 1 for n in (5, 40))
    plain, sharp = (build_codec("patch", {"num_channels": 24, "sharpen": s}).fit([few]) for s in (False, True))
    latents = plain.encode(held_out)[0]
    assert psnr(sharp.decode(latents), held_out) > psnr(plain.decode(latents), held_out) - 0.2


def test_constant_pictures_give_finite_latents():
    gray = torch.zeros(4, 3, 8, 8)
    codec = build_codec("patch", {"num_channels": 6}).fit([gray])
    latents, _ = codec.encode(gray)
    assert latents.isfinite().all()
    torch.testing.assert_close(codec.decode(latents), gray, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("sharpen", [False, True])
def test_folder_round_trip_keeps_every_bit(tmp_path, sharpen):
    codec = fitted(sharpen=sharpen)
    codec.save(tmp_path)
    again = load_codec(tmp_path)
    assert isinstance(again, PatchCodec)
    assert isinstance(again, ImageCodec)
    assert (again.name, again.fingerprint()) == (codec.name, codec.fingerprint())
    latents = torch.randn(2, 12, 6, 6)
    assert torch.equal(again.decode(latents), codec.decode(latents))
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again.save(tmp_path)
    assert first == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_fingerprint_follows_weights_and_settings():
    other = build_codec("patch", {"num_channels": 12}).fit([pictures(seed=5)])
    prints = {fitted().fingerprint(), other.fingerprint(), fitted(num_channels=11).fingerprint()}
    assert len(prints) == 3


def test_names_are_safe_and_read_back():
    assert fitted(num_channels=16).name == "patch4x16"
    codec = load_codec("patch8x24-plain")
    assert codec.settings == PatchSettings(patch_size=8, num_channels=24, sharpen=False)
    assert codec.needs_fit


def test_bad_calls_say_what_to_do_instead(tmp_path):
    with pytest.raises(ConfigError, match="48 dimensions"):
        build_codec("patch", {"num_channels": 49})
    with pytest.raises(ConfigError, match="such as 24"):
        fitted().encode(torch.zeros(1, 3, 25, 25))
    with pytest.raises(ConfigError, match="multiple of 4"):
        fitted().latent_shape(22)
    with pytest.raises(ConfigError, match="not fitted"):
        build_codec("patch").encode(pictures(1))
    with pytest.raises(ConfigError, match="not fitted"):
        build_codec("patch").save(tmp_path)
    with pytest.raises(DataError, match="no picture"):
        build_codec("patch").fit([])
    with pytest.raises(UnknownNameError, match="Did you mean 'num_channels'"):
        build_codec("patch", {"num_chanels": 3})


def test_damaged_folders_are_refused(tmp_path):
    fitted().save(tmp_path)
    header = json.loads((tmp_path / "codec.json").read_text())
    header["settings"]["num_channels"] = 7
    (tmp_path / "codec.json").write_text(json.dumps(header))
    with pytest.raises(DamagedFileError, match="asks for"):
        load_codec(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(DamagedFileError, match="not a whole safetensors"):
        load_codec(tmp_path)
    weights.unlink()
    with pytest.raises(MissingFileError):
        load_codec(tmp_path)
