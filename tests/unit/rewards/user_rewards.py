"""Rewards as a user might write them, good and bad; loaded by dotted path."""

import torch

from openmiro.core.types import RewardSpec


class Redness:
    spec = RewardSpec(name="redness", unit="share", low=0, high=1, needs_text=False, version="1")

    def preprocess(self, image):
        return torch.tensor([image.resize((1, 1)).getpixel((0, 0))[0] / 255])

    def encode_images(self, pixels):
        return pixels

    def score(self, features, texts):
        return features[:, 0]


class NotAReward:
    pass


class NeedsAnArgument(Redness):
    def __init__(self, threshold):
        self.threshold = threshold


class OtherRedness(Redness):
    pass


def make_redness():
    return Redness()


finished = Redness()


class TextBlind(Redness):
    spec = RewardSpec(name="text_blind", unit="share", needs_text=True, version="1")


class ReadsText(Redness):
    def score(self, features, texts):
        return features[:, 0] / (1 + torch.tensor([float(len(t)) for t in texts]))


class Random(Redness):
    def score(self, features, texts):
        return torch.rand(len(texts))


class BatchNormalized(Redness):
    def encode_images(self, pixels):
        return pixels - pixels.mean() + 0.5


class HalfPrecision(Redness):
    def score(self, features, texts):
        return features[:, 0].half()


class Matrix(Redness):
    def score(self, features, texts):
        return features


class NotANumber(Redness):
    def score(self, features, texts):
        return torch.log(-features[:, 0])


class OutOfRange(Redness):
    def score(self, features, texts):
        return features[:, 0] + 1


class SizeDependent(Redness):
    def preprocess(self, image):
        return torch.zeros(image.height, image.width)


class FailsOnTiny(Redness):
    def preprocess(self, image):
        if min(image.size) < 2:
            raise ValueError("too small")
        return super().preprocess(image)


class Vandal(Redness):
    def preprocess(self, image):
        image.putpixel((0, 0), (1, 2, 3))
        return super().preprocess(image)


class OnlyRGB(Redness):
    spec = RewardSpec(name="a/b", unit="share", low=1, high=0, needs_text=False, version="")


class Moody(Redness):
    num_made = 0

    def __init__(self):
        Moody.num_made += 1
        self.offset = Moody.num_made / 100

    def score(self, features, texts):
        return features[:, 0] * 0.5 + self.offset
