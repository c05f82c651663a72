"""Pretrained weights behind a codec or a text encoder: found once, pinned exactly when saved."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from openmiro.codecs.files import resolve_source, tensors_digest
from openmiro.core.config import Config, fingerprint


class PretrainedSettings(Config):
    """Where weights come from.

    Attributes:
        source: a folder or a Hub repository.
        revision: branch, tag or commit of the repository; saved as the exact commit.
        keep: what `save` does with weights from a local folder: copy them, or refer to the folder.
    """

    source: str
    revision: str | None = None
    keep: Literal["copy", "reference"] = "copy"
    weights: str = Field(default="", description="digest of the weights, filled in by save and checked by load")


Settings = TypeVar("Settings", bound=PretrainedSettings)


class Pretrained(Generic[Settings]):
    """What a codec and a text encoder with pretrained weights have in common.

    Attributes:
        kind: name in the registry.
        what: in words, for messages.
        patterns: of the files that a Hub repository is asked for.
        settings: of the codec or encoder.
        model: the module whose weights count.
    """

    kind: ClassVar[str]
    what: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]]
    settings: Settings
    model: Any
    _folder: Path | None = None

    @cached_property
    def _located(self) -> tuple[Path, str | None]:
        """The folder of the weights, and the exact commit where they come from the Hub."""
        if self._folder is not None:
            return self._folder, None
        return resolve_source(self.settings.source, self.settings.revision, self.patterns, self.what)

    def fingerprint(self) -> str:
        """Of the settings and the weights (their digest, or repository and exact commit)."""
        values = self._pinned().dump()
        for key in ("keep", *(("source",) if values["weights"] else ())):
            del values[key]
        return fingerprint({"kind": self.kind, **values})

    def _pinned(self) -> Settings:
        """The settings with the exact commit, or with the digest of a folder's weights."""
        _, commit = self._located
        if commit is not None:
            return self.settings.model_copy(update={"revision": commit})
        digest = self.settings.weights or tensors_digest(self.model.state_dict())
        return self.settings.model_copy(update={"weights": digest})
