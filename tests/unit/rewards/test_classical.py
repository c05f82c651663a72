import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from openmiro.rewards.base import score_pairs
from openmiro.rewards.classical import WORKING_SIDE, Colorfulness, Contrast, Exposure, Sharpness, limit_side


def picture(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


def score(model, image):
    return float(score_pairs(model, [image])[0])


def flat(color, size=(8, 8)):
    return Image.new("RGB", size, color)


def halves(left, right, side=16):
    image = flat(left, (side, side))
    image.paste(right, (side // 2, 0, side, side))
    return image


def photo(seed=0, size=(96, 64)):
    """Correlated color noise, as smooth as a photo."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3))
    return picture(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("gray"), 0.0),
        (flat((255, 0, 0)), 0.3 * np.hypot(255, 127.5)),
        (flat((0, 0, 255)), 0.3 * 255),
        # rg = 255 and -255, yb = 127.5 in both halves: deviation 255, means 0 and 127.5.
        (halves((255, 0, 0), (0, 255, 0)), 255 + 0.3 * 127.5),
        # yb = -255 and 255, rg = 0.
        (halves((0, 0, 255), (255, 255, 0)), 255.0),
        # One half red, one black: rg 255, 0; yb 127.5, 0.
        (halves((255, 0, 0), (0, 0, 0)), np.hypot(127.5, 63.75) + 0.3 * np.hypot(127.5, 63.75)),
    ],
)
def test_colorfulness_is_equation_four_of_the_paper(image, expected):
    assert score(Colorfulness(), image) == pytest.approx(expected, rel=1e-6)


def test_sharpness_of_a_checkerboard_in_closed_form():
    # Inside, every neighbor of a 255 is a 0: the Laplacian is -4 * 255 or 4 * 255. With repeated borders the edge
    # pixels see 3 or 2 opposite neighbors; the mean is 0 by symmetry.
    side = 8
    board = np.indices((side, side)).sum(0) % 2 * 255
    inside, edge, corner = (side - 2) ** 2, 4 * (side - 2), 4
    variance = 255**2 * (16 * inside + 9 * edge + 4 * corner) / side**2
    image = picture(np.repeat(board[..., None], 3, -1))
    assert score(Sharpness(), image) == pytest.approx(np.log10(1 + variance), rel=1e-6)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("white"), 0.0),
        (halves("black", "white"), 0.5),
        # sRGB 188 is 0.5029 in linear light, where the average of black and white would be sRGB 128 when gamma-encoded.
        (halves("black", (188, 188, 188)), ((188 / 255 + 0.055) / 1.055) ** 2.4 / 2),
        (halves("black", (0, 255, 0)), 0.7152 / 2),
        (halves("black", (10, 10, 10)), 10 / 255 / 12.92 / 2),
    ],
)
def test_contrast_is_the_deviation_of_linear_light(image, expected):
    assert score(Contrast(), image) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat((51, 51, 51)), np.exp(-(0.3**2) / 0.08)),
        (flat((204, 204, 204)), np.exp(-(0.3**2) / 0.08)),
        (flat("black"), 0.0),
        (flat("white"), 0.0),
        # Half clipped: the mean of the Gaussian halves, and the share that is not clipped halves it again.
        (halves("black", (204, 204, 204)), (np.exp(-0.25 / 0.08) + np.exp(-0.09 / 0.08)) / 2 * 0.5),
    ],
)
def test_exposure_in_closed_form(image, expected):
    assert score(Exposure(), image) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_what_people_do_to_a_photo_moves_the_scores_the_way_they_see_it():
    image = photo()
    assert score(Sharpness(), image.filter(ImageFilter.GaussianBlur(2))) < score(Sharpness(), image) - 0.5
    assert score(Colorfulness(), image.convert("L")) == pytest.approx(0, abs=1e-5)
    washed = Image.blend(image, flat("gray", image.size), 0.6)
    assert score(Colorfulness(), washed) < 0.6 * score(Colorfulness(), image)
    assert score(Contrast(), washed) < 0.6 * score(Contrast(), image)
    assert score(Exposure(), image.point(lambda v: min(255, 3 * v))) < score(Exposure(), image)
    assert score(Exposure(), image.point(lambda v: v // 6)) < score(Exposure(), image)


@pytest.mark.parametrize("model", [Colorfulness(), Contrast(), Exposure()], ids=lambda m: m.spec.name)
def test_resolution_hardly_matters(model):
    large = photo(size=(2048, 1024))
    small = large.resize((1024, 512), Image.Resampling.LANCZOS)
    assert score(model, large) == pytest.approx(score(model, small), rel=0.02)


@pytest.mark.parametrize("model", [Colorfulness(), Contrast(), Exposure(), Sharpness()], ids=lambda m: m.spec.name)
def test_turning_and_mirroring_change_nothing(model):
    image = photo(3)
    for change in (Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT):
        assert score(model, image.transpose(change)) == pytest.approx(score(model, image), rel=1e-6)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_working_size_is_limited_and_keeps_its_shape(width, height):
    small = limit_side(Image.new("1", (width, height)), WORKING_SIDE)
    assert max(small.size) == min(max(width, height), WORKING_SIDE)
    assert min(small.size) >= 1
    if max(width, height) > WORKING_SIDE:
        ratio = WORKING_SIDE / max(width, height)
        assert abs(small.width - width * ratio) <= 1
        assert abs(small.height - height * ratio) <= 1
    else:
        assert small.size == (width, height)


@settings(deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_scores_of_flat_pictures_stay_in_range(r, g, b):
    image = flat((r, g, b))
    assert score(Sharpness(), image) == 0
    assert score(Contrast(), image) == pytest.approx(0, abs=1e-7)
    assert 0 <= score(Exposure(), image) <= 1
    assert 0 <= score(Colorfulness(), image) < 86
