"""What every reward has to fulfil before a data set is scored with it, as checks that anyone can run on their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from openmiro.core.seeds import numpy_generator
from openmiro.core.types import RewardModel, RewardSpec
from openmiro.rewards.base import score_pairs
from openmiro.rewards.catalog import load_reward

TOLERANCE = 1e-4
"""How far a score may move, relative to its size, because another number of pictures is in the batch."""
SIZES = ((64, 64), (1, 1), (3, 200), (200, 3), (37, 53), (640, 480))
"""Widths and heights of the test pictures."""
MODES = ("L", "LA", "P", "RGBA", "CMYK", "1")
"""Picture modes besides RGB that occur in real data."""
TEXTS = (
    "a red circle",
    "",
    "two blue squares left of a large yellow triangle on a gray background",
    "a photo of a dog on the beach",
    "ein Haus am See, 湖畔の家",
    "word " * 400,
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class _Subject:
    model: RewardModel
    name: str | None
    images: Sequence[Image.Image]
    texts: Sequence[str]

    def pairs(self) -> tuple[list[Image.Image], list[str]]:
        count = max(len(self.images), len(self.texts))
        return (
            [self.images[i % len(self.images)] for i in range(count)],
            [self.texts[i % len(self.texts)] for i in range(count)],
        )


def check_reward(
    reward: RewardModel | str,
    images: Sequence[Image.Image] | None = None,
    texts: Sequence[str] | None = None,
) -> list[str]:
    """What is wrong with a reward, one sentence each; empty where it conforms.

    Args:
        reward: an object, or a name or dotted path, which also checks that it can be made anew in a worker process.
        images: RGB pictures to score, by default synthetic ones of odd sizes.
        texts: captions to score them against; give some that the reward should tell apart.

    Raises:
        UnknownNameError, ConfigError, MissingExtraError: the name cannot be resolved.
    """
    name = reward if isinstance(reward, str) else None
    model = load_reward(reward) if isinstance(reward, str) else reward
    subject = _Subject(model, name, list(images or sample_pictures()), list(texts or TEXTS))
    violations: list[str] = []
    for check in _CHECKS:
        try:
            violations += check(subject)
        except Exception as error:  # a user's code may raise anything, and the other checks are still worth running
            question = (check.__doc__ or "").rstrip(".?")
            violations.append(f"cannot tell whether {question}: {type(error).__name__}: {error}")
    return violations


def sample_pictures(seed: int = 0) -> list[Image.Image]:
    """Synthetic RGB pictures of odd sizes: color gradients with noise, different from each other."""
    pictures = []
    for i, (width, height) in enumerate(SIZES):
        rng = numpy_generator(seed, "conformance", i)
        x, y = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
        pixels = 255 * (rng.random(3) * x + rng.random(3) * y) / 2 + rng.normal(40, 20, (height, width, 3))
        pictures.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return pictures


def _check_spec(subject: _Subject) -> Iterator[str]:
    """the spec is valid."""
    spec = subject.model.spec
    if not isinstance(spec, RewardSpec):
        yield f"spec must be a RewardSpec, not a {type(spec).__name__}"
        return
    if not _NAME.fullmatch(spec.name):
        yield f"spec.name '{spec.name}' must be letters, digits, '_', '-', '.' (it names a folder)"
    if spec.low is not None and spec.high is not None and not spec.low < spec.high:
        yield f"spec.low {spec.low:g} must be below spec.high {spec.high:g}"
    if not spec.version:
        yield "spec.version must not be empty: it tells scores of different versions apart"


def _check_preprocess(subject: _Subject) -> Iterator[str]:
    """preprocess gives one shape for pictures of every size."""
    kinds = set()
    for image in subject.images:
        before = image.tobytes()
        try:
            tensor = subject.model.preprocess(image)
        except Exception as error:
            yield f"preprocess failed on a picture of {image.width}x{image.height}: {type(error).__name__}: {error}"
            continue
        if not isinstance(tensor, torch.Tensor):
            yield f"preprocess must return a tensor, not a {type(tensor).__name__}"
            return
        if image.tobytes() != before:
            yield "preprocess changed the picture it was given"
        kinds.add((tuple(tensor.shape), tensor.dtype))
    if len(kinds) > 1:
        yield f"preprocess must give one shape and type whatever the picture's size, not {sorted(map(str, kinds))}"


def _check_modes(subject: _Subject) -> Iterator[str]:
    """pictures of every mode can be scored."""
    for mode in MODES:
        try:
            score_pairs(subject.model, [subject.images[0].convert(mode)], subject.texts[:1])
        except Exception as error:
            yield f"a picture of mode {mode} cannot be scored: {type(error).__name__}: {error}"


def _check_scores(subject: _Subject) -> Iterator[str]:
    """scores are finite float32 [B] within the range of the spec."""
    images, texts = subject.pairs()
    with torch.no_grad():
        features = subject.model.encode_images(torch.stack([subject.model.preprocess(image) for image in images]))
        scores = subject.model.score(features, texts)
    if not isinstance(features, torch.Tensor) or features.shape[:1] != (len(images),):
        yield f"encode_images must return a tensor whose first axis is the {len(images)} pictures"
    if tuple(scores.shape) != (len(images),):
        yield f"score must return shape ({len(images)},) for {len(images)} pairs, not {tuple(scores.shape)}"
    if scores.dtype != torch.float32 or scores.device.type != "cpu":
        yield f"score must return float32 on the CPU, not {scores.dtype} on {scores.device}"
    if not torch.isfinite(scores).all():
        yield f"{int((~torch.isfinite(scores)).sum())} of {len(images)} scores are not finite"
    low, high = subject.model.spec.low, subject.model.spec.high
    margin = TOLERANCE * max(abs(low or 0), abs(high or 0), 1)
    finite = scores[torch.isfinite(scores)]
    if low is not None and (finite < low - margin).any():
        yield f"a score of {float(finite.min()):g} is below spec.low {low:g}"
    if high is not None and (finite > high + margin).any():
        yield f"a score of {float(finite.max()):g} is above spec.high {high:g}"


def _check_repeatable(subject: _Subject) -> Iterator[str]:
    """the same pair gets the same score."""
    first = score_pairs(subject.model, *subject.pairs())
    if not np.array_equal(first, score_pairs(subject.model, *subject.pairs()), equal_nan=True):
        yield "scoring the same pairs twice gave different scores: the reward must not draw random numbers"
    if subject.name is not None:
        again = score_pairs(load_reward(subject.name), *subject.pairs())
        if not np.allclose(first, again, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            yield "a second object of the same name gives other scores, so worker processes would disagree"


def _check_batching(subject: _Subject) -> Iterator[str]:
    """a score depends on its own pair only."""
    images, texts = subject.pairs()
    together = score_pairs(subject.model, images, texts, batch_size=len(images))
    alone = score_pairs(subject.model, images, texts, batch_size=1)
    worst = float(np.max(np.abs(together - alone) / np.maximum(np.abs(alone), 1)))
    if worst > TOLERANCE:
        yield f"scores of a batch differ from scores of single pictures by up to {worst:.2g} (relative)"


def _check_texts(subject: _Subject) -> Iterator[str]:
    """texts matter exactly where the spec says so."""
    spread = 0.0
    for image in subject.images:
        with torch.no_grad():
            features = subject.model.encode_images(torch.stack([subject.model.preprocess(image)] * len(subject.texts)))
            spread = max(spread, float(np.ptp(subject.model.score(features, subject.texts).numpy())))
    if subject.model.spec.needs_text and spread == 0:
        yield "spec.needs_text is True, but no picture's score depends on its text"
    if not subject.model.spec.needs_text and spread > 0:
        yield "spec.needs_text is False, but the score depends on the text"


_CHECKS: tuple[Callable[[_Subject], Iterator[str]], ...] = (
    _check_spec,
    _check_preprocess,
    _check_modes,
    _check_scores,
    _check_repeatable,
    _check_batching,
    _check_texts,
)

__all__ = ["MODES", "SIZES", "TEXTS", "check_reward", "sample_pictures"]
