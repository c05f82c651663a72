from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from openmiro.core.errors import DataError
from openmiro.core.types import RewardSpec
from openmiro.rewards.base import as_rgb, score_all, score_captions, score_pairs
from openmiro.rewards.classical import Colorfulness, Contrast


class MeanPlusLength:
    """Mean of the red channel plus the number of letters; counts how many pictures it encodes."""

    spec = RewardSpec(name="mean_plus_length", unit="points", needs_text=True, version="1")

    def __init__(self) -> None:
        self.num_encoded = 0
        self.batch_sizes: list[int] = []

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor([np.asarray(image)[..., 0].mean()], dtype=torch.float32)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        self.num_encoded += len(pixels)
        self.batch_sizes.append(len(pixels))
        return pixels

    def score(self, features: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        return features[:, 0] + torch.tensor([float(len(t)) for t in texts])


def reds(*values):
    return [Image.new("RGB", (5, 4), (v, 0, 0)) for v in values]


def test_pairs_are_scored_in_order_and_in_batches():
    model = MeanPlusLength()
    scores = score_pairs(model, reds(10, 20, 30, 40, 50), ["a", "bb", "", "dddd", "e"], batch_size=2)
    np.testing.assert_array_equal(scores, np.array([11, 22, 30, 44, 51], np.float32))
    assert scores.dtype == np.float32
    assert model.batch_sizes == [2, 2, 1]


def test_features_are_computed_once_for_all_captions_of_a_picture():
    model = MeanPlusLength()
    captions = {"original": ["a", "bb", "ccc"], "synthetic": [None, "xxxx", "y"]}
    scores = score_captions(model, reds(10, 20, 30), captions, batch_size=2)
    np.testing.assert_array_equal(scores["original"], [11, 22, 33])
    np.testing.assert_array_equal(scores["synthetic"], [np.nan, 24, 31])
    assert model.num_encoded == 3


def test_an_image_only_reward_has_one_column_whatever_the_captions():
    images = [Image.new("RGB", (3, 3), "red"), Image.new("RGB", (3, 3), "gray")]
    scores = score_captions(Colorfulness(), images, {"original": ["a", None], "synthetic": [None, "b"]})
    assert list(scores) == ["image"]
    np.testing.assert_allclose(scores["image"], [0.3 * np.hypot(255, 127.5), 0], atol=1e-5)
    np.testing.assert_array_equal(score_captions(Colorfulness(), images, {})["image"], scores["image"])


def test_several_rewards_give_one_column_each_in_their_order():
    images = reds(0, 128, 255)
    scores = score_all([Contrast(), MeanPlusLength(), Colorfulness()], images, ["a"] * 3)
    assert scores.shape == (3, 3)
    np.testing.assert_array_equal(scores[:, 1], [1, 129, 256])
    np.testing.assert_array_equal(scores[:, 2], score_pairs(Colorfulness(), images))
    assert score_all([], images).shape == (3, 0)


def test_no_pictures_give_no_scores():
    assert score_pairs(Colorfulness(), []).shape == (0,)


def test_texts_must_be_there_and_match():
    with pytest.raises(DataError, match="one text per picture"):
        score_pairs(MeanPlusLength(), reds(1))
    with pytest.raises(DataError, match="2 pictures but 1 texts"):
        score_pairs(MeanPlusLength(), reds(1, 2), ["a"])


def test_scores_of_the_wrong_shape_are_refused():
    class Column(MeanPlusLength):
        def score(self, features, texts):
            return features

    with pytest.raises(DataError, match=r"shape \(2, 1\) for 2 pairs; expected \(2,\)"):
        score_pairs(Column(), reds(1, 2), ["a", "b"])


def test_transparency_lies_on_white_and_other_modes_become_rgb():
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert as_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("LA", (2, 2), (0, 128))
    assert as_rgb(half).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)
    palette = Image.new("P", (2, 2), 0)
    palette.info["transparency"] = 0
    assert as_rgb(palette).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("1", "L", "CMYK", "YCbCr", "HSV", "P"):
        assert as_rgb(Image.new(mode, (2, 2))).mode == "RGB"
    image = Image.new("RGB", (2, 2))
    assert as_rgb(image) is image
