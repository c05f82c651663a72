"""Names to objects, lazily: a built-in table, installed entry points, or a dotted path ``package.module:attribute``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from openmiro.core.errors import ConfigError, MissingExtraError, UnknownNameError

EXTRA_OF_MODULE = {
    "transformers": "models",
    "diffusers": "models",
    "matplotlib": "report",
    "jinja2": "report",
    "tensorboard": "track",
    "ray": "ray",
    "gradio": "app",
    "optuna": "search",
}
"""Which optional extra brings a third-party module."""


@dataclass(frozen=True)
class Registry:
    """A table of lazily imported objects.

    Attributes:
        kind: what the names stand for, used in messages ("reward").
        builtin: name -> ``"module:attribute"``.
        group: entry-point group through which other packages add names ("openmiro.rewards").
    """

    kind: str
    builtin: Mapping[str, str] = field(default_factory=dict)
    group: str = ""

    def names(self) -> list[str]:
        """Every known name, built-in first."""
        return [*self.builtin, *(n for n in self._installed() if n not in self.builtin)]

    def resolve(self, name: str) -> Any:
        """The object behind a name or a dotted path.

        Raises:
            UnknownNameError: neither a known name nor a dotted path.
            ConfigError: a dotted path whose module or attribute does not exist.
            MissingExtraError: the object's module needs a package that is not installed.
        """
        target = self.builtin.get(name) or self._installed().get(name)
        if target is None:
            if ":" not in name:
                raise UnknownNameError(self.kind, name, self.names(), "Or a dotted path: package.module:attribute.")
            target = name
        return import_object(target, self.kind)

    def _installed(self) -> dict[str, str]:
        return {e.name: e.value for e in entry_points(group=self.group)} if self.group else {}


def import_object(target: str, kind: str = "object") -> Any:
    """Imports ``"module:attribute"``.

    Raises:
        ConfigError: the module or the attribute does not exist.
        MissingExtraError: importing it needs an optional package.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in EXTRA_OF_MODULE:
            raise MissingExtraError(f"the {kind} '{target}'", missing, EXTRA_OF_MODULE[missing]) from None
        raise ConfigError(f"the {kind} '{target}' cannot be imported: {error}") from None
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(f"module '{module_name}' has no {kind} '{attribute}'") from None


def require(module: str, needed_for: str) -> Any:
    """Imports an optional third-party module, or raises `MissingExtraError` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        top = module.split(".")[0]
        raise MissingExtraError(needed_for, top, EXTRA_OF_MODULE.get(top, "all")) from None
