"""Rewards whose scores a test can foretell."""

import re
import time
from abc import ABC, abstractmethod
from collections import Counter

import torch

from openmiro.core.types import RewardSpec

CALLS: Counter[str] = Counter()
"""How often each toy looked at a picture, and at how many."""


class _Toy(ABC):
    spec: RewardSpec

    def preprocess(self, image):
        CALLS[f"{self.spec.name} preprocess"] += 1
        return torch.tensor([float(image.size[0])])

    def encode_images(self, pixels):
        CALLS[f"{self.spec.name} encode"] += len(pixels)
        return pixels

    @abstractmethod
    def score(self, features, texts): ...


def number_in(text: str) -> float:
    """o12 -> 12, s12 -> 1012, t12 -> 2012, the numbers by which a text is told."""
    kind, digits = re.search(r"\b([ost])(\d+)\b", text).groups()
    return {"o": 0, "s": 1000, "t": 2000}[kind] + int(digits)


def has_no_score(number: float) -> bool:
    """Texts that the toys give NaN; others for original than for synthetic captions of the same row."""
    return (number + number // 1000) % 10 == 7


class TextNumber(_Toy):
    """The number in the text; NaN where `has_no_score`."""

    spec = RewardSpec(name="text_number", unit="number", needs_text=True, version="1")

    def score(self, features, texts):
        CALLS[f"{self.spec.name} score"] += len(texts)
        numbers = [number_in(text) for text in texts]
        return torch.tensor([float("nan") if has_no_score(number) else number for number in numbers])


class ShortTextNumber(TextNumber):
    spec = RewardSpec(name="short_text_number", unit="number", needs_text=True, caption="short", version="1")


class Width(_Toy):
    """The width of the picture; infinite for pictures of 33 pixels."""

    spec = RewardSpec(name="width", unit="pixels", needs_text=False, version="1")

    def score(self, features, texts):
        CALLS["width score"] += len(features)
        return torch.where(features[:, 0] == 33, torch.inf, features[:, 0])


class WidthTwo(Width):
    """The same reward in a later version."""

    spec = Width.spec.model_copy(update={"version": "2"})


class Failing(Width):
    spec = Width.spec.model_copy(update={"name": "failing"})

    def score(self, features, texts):
        raise RuntimeError("out of order")


class WrongShape(Width):
    spec = Width.spec.model_copy(update={"name": "wrong_shape"})

    def score(self, features, texts):
        return features


class BadName(Width):
    spec = Width.spec.model_copy(update={"name": "../evil"})


class Slow(Width):
    """Takes its time, so that a test can interrupt it."""

    spec = Width.spec.model_copy(update={"name": "slow"})

    def score(self, features, texts):
        time.sleep(0.2)
        return super().score(features, texts)
