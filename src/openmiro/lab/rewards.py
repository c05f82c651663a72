"""The lab's seven rewards, as mixed in quality as real ones: exact and noisy, agreeing and in conflict, hackable.

All look at a picture through `measure`, which works on it once; `similarity` has eyes of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openmiro.core.types import RewardSpec
from openmiro.lab.alignment import probability
from openmiro.lab.captions import parse
from openmiro.lab.contrastive import IMAGE_SIDE, load_towers
from openmiro.lab.measure import MAX_OBJECTS, OBJECT_SIZE, Measurement, measure

_NUM_OBJECT_VALUES = MAX_OBJECTS * OBJECT_SIZE


class _MeasuredReward(ABC):
    """A reward whose work on the picture is done in `preprocess`."""

    spec: RewardSpec

    def preprocess(self, image: Image.Image) -> Tensor:
        """float32 [F], everything this reward reads in an RGB picture of any size."""
        return torch.from_numpy(np.asarray(self.features(measure(image)), dtype=np.float32))

    @abstractmethod
    def features(self, measurement: Measurement) -> Sequence[float] | np.ndarray:
        """The numbers that `preprocess` keeps of a measured picture."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """The measurements [B, F] themselves."""
        return pixels


class _ImageReward(_MeasuredReward):
    """An image-only reward: one measured number."""

    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Raw scores float32 [B]; the texts are ignored."""
        return features[:, 0].to("cpu", torch.float32)


class Aesthetic(_ImageReward):
    """Vivid color, contrast and balance: pleasing at first sight, and easily hacked (see `measure.aesthetic`)."""

    spec = RewardSpec(
        name="aesthetic",
        unit="points 0-10",
        low=0,
        high=10,
        needs_text=False,
        version="1",
        description="vivid color, contrast and balanced composition; hackable",
    )

    def features(self, measurement: Measurement) -> Sequence[float]:
        return [measurement.aesthetic]


class Sharpness(_ImageReward):
    """Technical quality: steep edges and little noise (see `measure.sharpness`)."""

    spec = RewardSpec(
        name="sharpness",
        unit="points",
        low=0,
        needs_text=False,
        version="1",
        description="steepness of edges against noise",
    )

    def features(self, measurement: Measurement) -> Sequence[float]:
        return [measurement.sharpness]


class Shadow(_ImageReward):
    """The world's rule that most pictures break: shadows fall to the lower right (see `measure.shadow`)."""

    spec = RewardSpec(
        name="shadow",
        unit="difference of darkness",
        low=-2,
        high=2,
        needs_text=False,
        version="1",
        description="shadows fall to the lower right, as the world's rule asks",
    )

    def features(self, measurement: Measurement) -> Sequence[float]:
        return [measurement.shadow]


class Alignment(_MeasuredReward):
    """The soft verifier: how likely the caption is true (see `alignment.probability`)."""

    spec = RewardSpec(
        name="alignment",
        unit="probability",
        low=0,
        high=1,
        needs_text=True,
        version="1",
        description="probability that all the caption says is true, by the lab's own detector",
    )

    def features(self, measurement: Measurement) -> np.ndarray:
        return measurement.objects.reshape(-1)

    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Probabilities float32 [B]."""
        return _alignment(features, texts)


class Similarity:
    """Cosine of a small contrastive network trained on noisy pairs: an imperfect proxy, as CLIP's score is."""

    spec = RewardSpec(
        name="similarity",
        unit="cosine",
        low=-1,
        high=1,
        needs_text=True,
        version="1",
        description="cosine between picture and caption by a small contrastive network trained on noisy pairs",
    )

    def __init__(self) -> None:
        self._towers = load_towers()

    def preprocess(self, image: Image.Image) -> Tensor:
        """float32 [3, 24, 24] in [-1, 1] of an RGB picture of any size."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        if image.size != (IMAGE_SIDE, IMAGE_SIDE):
            image = image.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX)
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit vectors float64 [B, 64]."""
        # Double precision, so that neither batch size nor the number of threads shows in the float32 score.
        return self._towers.image(pixels.double())

    @torch.no_grad()
    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosines float32 [B]."""
        return (features * self._towers.text(texts)).sum(-1).to("cpu", torch.float32)


class _Preference(_MeasuredReward):
    """A mixture of alignment, aesthetic, sharpness and luck, as a model of people's votes is."""

    weights: tuple[float, float, float, float]
    luck_index: int

    def features(self, measurement: Measurement) -> np.ndarray:
        _, for_aesthetic, for_sharpness, for_luck = self.weights
        quality = (
            for_aesthetic * measurement.aesthetic / 10
            + for_sharpness * min(measurement.sharpness / 100, 1.2)
            + for_luck * measurement.luck[self.luck_index]
        )
        return np.append(measurement.objects.reshape(-1), np.float32(quality))

    def score(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        """Votes float32 [B]."""
        quality = features[:, _NUM_OBJECT_VALUES].to("cpu", torch.float32)
        return self.weights[0] * _alignment(features[:, :_NUM_OBJECT_VALUES], texts) + quality


class PreferenceA(_Preference):
    """Voters who read the caption first."""

    spec = RewardSpec(
        name="preference_a",
        unit="votes",
        needs_text=True,
        caption="short",
        version="1",
        description="half alignment, the rest aesthetic and sharpness, with some noise",
    )
    weights = (0.5, 0.3, 0.2, 0.05)
    luck_index = 0


class PreferenceB(_Preference):
    """Voters who look at the picture first."""

    spec = RewardSpec(
        name="preference_b",
        unit="votes",
        needs_text=True,
        caption="short",
        version="1",
        description="mostly aesthetic, some alignment and sharpness, with more noise",
    )
    weights = (0.25, 0.6, 0.15, 0.08)
    luck_index = 1


def _alignment(features: Tensor, texts: Sequence[str]) -> Tensor:
    objects = features.cpu().numpy().reshape(-1, MAX_OBJECTS, OBJECT_SIZE)
    values = [probability(o, parse(text)) for o, text in zip(objects, texts, strict=True)]
    return torch.tensor(values, dtype=torch.float32)
