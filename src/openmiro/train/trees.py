"""State dictionaries as named tensors plus JSON, so that optimizer state needs no pickle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openmiro.core.errors import DamagedFileError

_TENSOR, _MAPPING = "tensor", "mapping"


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Splits a tree of mappings, lists, numbers, texts and tensors into JSON and named tensors.

    A tensor becomes ``{"tensor": name}``, its name being its path. A mapping becomes a list of pairs,
    ``{"mapping": [[key, value], ...]}``, because JSON would turn the integer keys of an optimizer's state into texts.
    """
    tensors: dict[str, Tensor] = {}
    return _flatten(tree, "", tensors), tensors


def unflatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree that `flatten` took apart (tuples come back as lists).

    Raises:
        DamagedFileError: a tensor is missing.
    """
    if isinstance(value, list):
        return [unflatten(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        if value[_TENSOR] not in tensors:
            raise DamagedFileError(f"the optimizer state lacks the tensor '{value[_TENSOR]}'")
        return tensors[value[_TENSOR]]
    return {key: unflatten(item, tensors) for key, item in value[_MAPPING]}


def _flatten(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {_TENSOR: path}
    if isinstance(tree, dict):
        return {_MAPPING: [[key, _flatten(item, _join(path, key), tensors)] for key, item in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_flatten(item, _join(path, i), tensors) for i, item in enumerate(tree)]
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"optimizer state at '{path}' is a {type(tree).__name__}, which is neither a tensor nor JSON")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def copy_to_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory."""
    return {name: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, t in tensors.items()}
