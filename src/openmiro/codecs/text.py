"""The lab's text encoder: words to ids, for an embedding that is trained with the denoiser."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field

from openmiro.codecs.catalog import TEXT_ENCODERS, build_text_encoder, load_text_encoder
from openmiro.codecs.files import ENCODER_FILE, read_header, write_header
from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import ConfigError, DataError
from openmiro.core.types import TextBatch

PAD_ID = 0
UNKNOWN_ID = 1
_NUM_SPECIAL = 2
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def tokenize(text: str) -> list[str]:
    """Lower-case words and single punctuation marks, after Unicode compatibility normalization (NFKC)."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


class WordSettings(Config):
    """Settings of `WordEncoder`.

    Attributes:
        max_tokens: L; a longer caption is cut there.
        min_count: a word must occur that often in the captions to get its own id.
        max_size: the largest vocabulary, the two special ids included.
        vocabulary: the words in the order of their ids, which start at 2; filled in by `fit`.
    """

    max_tokens: int = Field(default=32, ge=1, le=4096)
    min_count: int = Field(default=1, ge=1)
    max_size: int = Field(default=8192, ge=_NUM_SPECIAL + 1)
    vocabulary: tuple[str, ...] = ()


class WordEncoder:
    """Token ids int64 [B, L] with 0 for padding and 1 for words that the vocabulary does not have."""

    kind: ClassVar[str] = "words"
    dim: ClassVar[int | None] = None
    """No features: the denoiser embeds the ids."""

    def __init__(self, settings: WordSettings | None = None) -> None:
        self.settings = settings or WordSettings()
        self._ids = {word: number for number, word in enumerate(self.settings.vocabulary, start=_NUM_SPECIAL)}
        if len(self._ids) != len(self.settings.vocabulary):
            raise ConfigError("the vocabulary of the word encoder holds a word twice")

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """The encoder before fitting, or after it where the settings bring a vocabulary."""
        return cls(WordSettings.parse(settings, "the settings of the word encoder"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder that `save` wrote."""
        return cls.build(read_header(folder / ENCODER_FILE)[1])

    @property
    def name(self) -> str:
        """Such as "words32"."""
        return f"words{self.settings.max_tokens}"

    @property
    def max_tokens(self) -> int:
        """L of every batch."""
        return self.settings.max_tokens

    @property
    def vocabulary_size(self) -> int | None:
        """Number of ids, the two special ones included: the rows of the denoiser's embedding."""
        return len(self.settings.vocabulary) + _NUM_SPECIAL

    @property
    def needs_fit(self) -> bool:
        """True until `fit`."""
        return not self.settings.vocabulary

    def fit(self, captions: Iterable[str]) -> WordEncoder:
        """The encoder with a vocabulary: by count, most frequent first, ties in alphabetical order.

        Raises:
            DataError: no word occurs `min_count` times.
        """
        counts = Counter(token for caption in captions for token in tokenize(caption))
        ranked = sorted((w for w, c in counts.items() if c >= self.settings.min_count), key=lambda w: (-counts[w], w))
        if not ranked:
            raise DataError(
                f"no word occurs {self.settings.min_count} times in the captions, so there is no vocabulary"
            )
        words = tuple(ranked[: self.settings.max_size - _NUM_SPECIAL])
        return WordEncoder(self.settings.model_copy(update={"vocabulary": words}))

    def encode(self, texts: Sequence[str]) -> TextBatch:
        """Ids [B, L] and mask [B, L]; an empty text has no token, which is the null text."""
        if self.needs_fit:
            raise ConfigError(f"the text encoder {self.name} was not fitted yet: call fit(captions) first")
        ids = torch.full((len(texts), self.max_tokens), PAD_ID, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, text in enumerate(texts):
            numbers = [self._ids.get(token, UNKNOWN_ID) for token in tokenize(text)[: self.max_tokens]]
            ids[row, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
            mask[row, : len(numbers)] = True
        return TextBatch(ids, mask)

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text that the vocabulary does not have, for a warning."""
        return [token for token in tokenize(text) if token not in self._ids]

    def to(self, device: torch.device | str) -> Self:
        """Itself: it has no weights, and ids are made on the CPU."""
        return self

    def save(self, folder: Path) -> None:
        """Writes encoder.json, vocabulary included."""
        write_header(folder / ENCODER_FILE, self.kind, self.settings.dump())

    def fingerprint(self) -> str:
        """Of what determines the ids: the length and the vocabulary."""
        return fingerprint({"kind": self.kind, "max_tokens": self.max_tokens, "words": self.settings.vocabulary})


def __getattr__(name: str) -> Any:
    # The transformers encoder lives in its own file; this keeps the documented address without importing it.
    if name == "TransformersTextEncoder":
        from openmiro.codecs.transformers_text import TransformersTextEncoder

        return TransformersTextEncoder
    raise AttributeError(name)


__all__ = [
    "PAD_ID",
    "TEXT_ENCODERS",
    "UNKNOWN_ID",
    "WordEncoder",
    "WordSettings",
    "build_text_encoder",
    "load_text_encoder",
    "tokenize",
]
