"""Any text encoder of transformers: token features of its last layer, with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field

from openmiro.codecs.files import (
    ENCODER_FILE,
    read_header,
    slug,
    tensors_digest,
    torch_dtype,
    write_header,
)
from openmiro.codecs.pretrained import Pretrained, PretrainedSettings
from openmiro.core.artifact import read_json
from openmiro.core.errors import ConfigError, DamagedFileError, ProvenanceError
from openmiro.core.registry import require
from openmiro.core.types import TextBatch

T5_FAMILY = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
_ENCODER_CLASS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel", "clip": "CLIPTextModel"}
_FLOAT16_REASON = "the feed-forward activations of T5 models exceed float16's range, and the features become NaN"
_SUBFOLDER = "encoder"
_PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt")


class TransformersSettings(PretrainedSettings):
    """Settings of `TransformersTextEncoder`.

    Attributes, besides those of `PretrainedSettings`:
        source: a folder or a Hub repository, model and tokenizer together.
        max_tokens: L, the same for training and sampling.
        dtype: of weights and arithmetic; float16 is refused for the T5 family.
    """

    max_tokens: int = Field(default=128, ge=1, le=4096)
    dtype: str = "bfloat16"


class TransformersTextEncoder(Pretrained[TransformersSettings]):
    """Features float32 [B, L, D] of the last layer, zero where there is no token. Of encoder-decoders the encoder runs.

    Weights and tokenizer are read at first use, from safetensors only; code beside them is never run.
    """

    kind: ClassVar[str] = "transformers"
    what: ClassVar[str] = "the text encoder"
    patterns: ClassVar[tuple[str, ...]] = _PATTERNS
    needs_fit: ClassVar[bool] = False
    vocabulary_size: ClassVar[int | None] = None
    """No ids: the denoiser receives features."""

    def __init__(self, settings: TransformersSettings) -> None:
        self._dtype = torch_dtype(settings.dtype, "a text encoder")
        self.settings = settings
        self._device = torch.device("cpu")

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Self:
        """The encoder with the given settings; no weights are read yet."""
        return cls(TransformersSettings.parse(settings, "the settings of the text encoder"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder that `save` wrote."""
        encoder = cls.build(read_header(folder / ENCODER_FILE)[1])
        if (folder / _SUBFOLDER / "config.json").is_file():
            encoder._folder = folder / _SUBFOLDER
        return encoder

    @cached_property
    def _config(self) -> dict[str, Any]:
        config = read_json(self._located[0] / "config.json")
        if config.get("model_type") in T5_FAMILY:
            torch_dtype(self.settings.dtype, f"a {config['model_type']} encoder", {"float16": _FLOAT16_REASON})
        return config

    @cached_property
    def model(self) -> Any:
        """The encoder module, in evaluation mode.

        Raises:
            MissingExtraError: transformers is not installed.
            ConfigError: float16 was asked of a T5 model, or the architecture is no text encoder.
            DamagedFileError: the files are not a whole model.
            ProvenanceError: the weights have changed since the encoder was saved.
        """
        transformers = require("transformers", "a pretrained text encoder")
        class_name = _ENCODER_CLASS.get(self._config.get("model_type", ""), "AutoModelForTextEncoding")
        folder = str(self._located[0])
        try:
            model = getattr(transformers, class_name).from_pretrained(
                folder, dtype=self._dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
        except ValueError as error:
            raise ConfigError(f"{folder} holds no text encoder that transformers knows: {error}") from None
        except (OSError, RuntimeError) as error:
            raise DamagedFileError(f"{folder} does not hold a whole text encoder as safetensors: {error}") from None
        model = model.eval().requires_grad_(False)
        if self.settings.weights and tensors_digest(model.state_dict()) != self.settings.weights:
            raise ProvenanceError(f"the text encoder in {folder} is not the one this encoder was saved with")
        return model.to(self._device)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that belongs to the model, padding on the right.

        Raises:
            DamagedFileError: there is none.
            ConfigError: it has no padding token.
        """
        transformers = require("transformers", "a pretrained text encoder")
        folder = str(self._located[0])
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, padding_side="right"
            )
        except (OSError, ValueError) as error:
            raise DamagedFileError(f"{folder} holds no tokenizer that can be read: {error}") from None
        if tokenizer.pad_token_id is None:
            raise ConfigError(f"the tokenizer in {folder} has no padding token")
        return tokenizer

    @property
    def name(self) -> str:
        """Such as "flan-t5-xl-128"."""
        return f"{slug(self.settings.source)}-{self.settings.max_tokens}"

    @property
    def max_tokens(self) -> int:
        """L of every batch."""
        return self.settings.max_tokens

    @property
    def dim(self) -> int | None:
        """D of the features."""
        sizes = (self._config.get(key) for key in ("d_model", "hidden_size", "dim"))
        found = next((size for size in sizes if size), None)
        return int(found) if found else int(self.model.config.hidden_size)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextBatch:
        """Features float32 [B, L, D] and mask [B, L]; an empty text has no token, which is the null text."""
        _ = self._config
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids, mask = tokens["input_ids"].to(self._device), tokens["attention_mask"].to(self._device)
        features = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        present = torch.tensor([bool(text.strip()) for text in texts], device=self._device)
        mask = mask.bool() & present[:, None]
        return TextBatch(features * mask[..., None], mask)

    def to(self, device: torch.device | str) -> Self:
        """The encoder with its weights on a device."""
        self._device = torch.device(device)
        if "model" in self.__dict__:
            self.model.to(self._device)
        return self

    def save(self, folder: Path) -> None:
        """Writes encoder.json, and a copy of the weights where they came from a local folder that is to be kept."""
        settings = self._pinned()
        if settings.revision is None and settings.keep == "copy":
            self.model.save_pretrained(folder / _SUBFOLDER)
            self.tokenizer.save_pretrained(folder / _SUBFOLDER)
            settings = settings.model_copy(update={"source": slug(settings.source)})
        write_header(folder / ENCODER_FILE, self.kind, settings.dump())
