import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from tests.builders import encoded, picture

from openmiro.data.images import ImageError, Limits, decode_image, describe, square_pixels
from openmiro.data.status import RowFlag, RowStatus

LIMITS = Limits()


def status_of(content: bytes, limits: Limits = LIMITS) -> RowStatus:
    with pytest.raises(ImageError) as caught:
        decode_image(content, limits)
    return caught.value.status


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats_decode_to_rgb(image_format):
    decoded = decode_image(picture(1, (32, 24), image_format), LIMITS)
    assert decoded.image.mode == "RGB"
    assert decoded.image.size == (32, 24)
    assert decoded.flags == ()


@pytest.mark.parametrize("image_format", ["TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(image_format):
    assert status_of(picture(1, (32, 32), image_format)) == RowStatus.IMAGE_UNREADABLE


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_picture(image_format, share, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(noise), image_format)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as another library may have left it
    assert status_of(content[: int(len(content) * share)]) == RowStatus.IMAGE_TRUNCATED


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>404 not found</html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF"]
)
def test_no_picture(content):
    assert status_of(content) in (RowStatus.IMAGE_UNREADABLE, RowStatus.IMAGE_TRUNCATED)


def test_pixel_limit_is_checked_before_decoding(monkeypatch):
    content = encoded(Image.new("1", (4000, 4000)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert status_of(content, Limits(max_pixels=1_000_000)) == RowStatus.IMAGE_TOO_LARGE


def test_bomb_of_400_megapixels():
    assert status_of(encoded(Image.new("1", (20_000, 20_000)))) == RowStatus.IMAGE_TOO_LARGE


def test_byte_limit():
    assert status_of(picture(), Limits(max_image_bytes=10)) == RowStatus.IMAGE_TOO_LARGE


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (1000, 10)])
def test_too_small_or_too_narrow(size):
    assert status_of(encoded(Image.new("RGB", size))) == RowStatus.IMAGE_TOO_SMALL


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 128))
    assert decode_image(encoded(clear), LIMITS).image.getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(half), LIMITS).image.getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)


def test_transparency_of_palettes_and_gray():
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert decode_image(encoded(palette, transparency=0), LIMITS).image.getpixel((3, 3)) == (255, 255, 255)
    assert decode_image(encoded(palette), LIMITS).image.getpixel((3, 3)) == (10, 20, 30)
    gray = Image.new("LA", (16, 16), (0, 0))
    assert decode_image(encoded(gray), LIMITS).image.getpixel((3, 3)) == (255, 255, 255)


def test_16_bits_are_rescaled_and_not_clipped():
    levels = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    image = decode_image(encoded(Image.fromarray(levels)), LIMITS).image
    assert np.array_equal(np.asarray(image)[0, :, 0], np.arange(256))


def test_cmyk():
    image = decode_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), LIMITS).image
    assert image.getpixel((0, 0))[0] > 200


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = decode_image(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif), LIMITS).image
    assert image.size == (20, 40)


def test_damaged_exif_is_flagged_and_not_fatal():
    exif = b"Exif\0\0II*\0" + b"\xff" * 40
    decoded = decode_image(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif), LIMITS)
    assert decoded.image.size == (40, 20)
    assert set(decoded.flags) <= {RowFlag.ORIENTATION_UNREADABLE}


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(content.getvalue(), LIMITS).image.getpixel((0, 0)) == (255, 0, 0)


def test_details_have_no_addresses_and_are_short():
    detail = describe(ValueError(f"at <object {object()}> \x1b[31m\ud800 " + "x" * 500))
    assert len(detail) <= 160
    assert detail.isprintable()
    assert "0x7" not in detail
    detail.encode()


def test_square_pixels_is_exact_where_nothing_is_resized():
    levels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    pixels = square_pixels(Image.fromarray(levels), 24)
    assert pixels.dtype == torch.float32
    assert torch.equal(((pixels + 1) * 127.5).round().to(torch.uint8), torch.from_numpy(levels).permute(2, 0, 1))


def test_square_pixels_cuts_the_center():
    wide = Image.new("RGB", (60, 20), "black")
    wide.paste("white", (20, 0, 40, 20))
    assert (square_pixels(wide, 10) > 0.99).all()
