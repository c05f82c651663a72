"""Strict, typed settings: unknown keys are errors that name the nearest key, and nothing is ever executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from openmiro.core.errors import ConfigError, UnknownNameError


class Config(BaseModel):
    """Base of every settings class: frozen, no extra keys, errors carry the dotted path of the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "settings") -> Self:
        """Validates a plain mapping.

        Raises:
            UnknownNameError: a key does not exist (names the nearest).
            ConfigError: a value has the wrong type or is out of range.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _readable(cls, error, where) from None

    def dump(self) -> dict[str, Any]:
        """A plain mapping of JSON types; `parse` of it gives an equal object."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The resolved settings as YAML, keys in declared order."""
        return yaml.safe_dump(self.dump(), sort_keys=False, allow_unicode=True)

    def fingerprint(self) -> str:
        """A hash of the resolved settings, equal exactly where all settings are equal."""
        return fingerprint(self.dump())


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """Parses a YAML mapping with the safe loader (no tags are executed).

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must hold a mapping of keys to values, not a {type(value).__name__}")
    return value


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Sets dotted keys: ``["optimizer.learning_rate=3e-4", "rewards=[sharpness]"]``; values are read as YAML.

    Raises:
        ConfigError: an override is not ``key=value`` or passes through a value that is not a mapping.
    """
    result = json.loads(json.dumps(dict(values)))
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise ConfigError(f"'{override}' is not an override. Write key=value, such as optimizer.learning_rate=3e-4")
        try:
            value = _number_or_same(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of '{path}' is not valid YAML: {error}") from None
        node = result
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"'{path}': '{parent}' holds a single value and has no key '{leaf}'")
        node[leaf] = value
    return result


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it; mappings are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in change.items():
        inner = result.get(key)
        result[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result


def _number_or_same(value: Any) -> Any:
    # YAML 1.1 reads 3e-4 as text (it wants 3.0e-4); people write the former.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _readable(cls: type[BaseModel], error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        parents, fields = _walk(cls, first["loc"][:-1])
        return UnknownNameError(
            f"key in {where}:", _dotted([*parents, first["loc"][-1]]), [_dotted([*parents, f]) for f in fields]
        )
    path, _ = _walk(cls, first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        return ConfigError(f"{where}: {message}")
    value = first.get("input")
    given = "" if isinstance(value, dict) else f" (given: {value!r})"
    return ConfigError(f"{where}: '{_dotted(path)}': {message}{given}")


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _walk(cls: type[BaseModel], path: Sequence[int | str]) -> tuple[list[int | str], list[str]]:
    """The path as a user writes it, and the keys of the settings at its end.

    Pydantic puts the tag of a tagged union into the path (`time.logit_normal.mean`); it chooses the member here and is
    left out.
    """
    written: list[int | str] = []
    members: list[type[BaseModel]] = [cls]
    for part in path:
        tagged = [m for m in members if any(f.default == part for f in m.model_fields.values())]
        if len(members) > 1 and tagged:
            members = tagged
            continue
        written.append(part)
        annotations = [m.model_fields[part].annotation for m in members if part in m.model_fields]
        candidates = [c for a in annotations for c in (a, *getattr(a, "__args__", ()))]
        members = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
    return written, list(dict.fromkeys(f for m in members for f in m.model_fields))
