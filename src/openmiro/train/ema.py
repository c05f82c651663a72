"""Averaged weights, with a half-life in images so that the batch size does not change a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from openmiro.train.recipe import EmaSettings


class Ema:
    """An exponential moving average of a module's parameters, in fp32.

    Buffers are not averaged: `state_dict` takes them from the module as they are.
    """

    def __init__(self, module: nn.Module, settings: EmaSettings) -> None:
        self.settings = settings
        self._module = module
        self._current = dict(module.named_parameters())
        self._average = {name: p.detach().float().clone() for name, p in self._current.items()}

    def decay(self, images_seen: int, num_images: int) -> float:
        """Share of the old average that survives an update of `num_images`, after which `images_seen` were seen."""
        half_life = self.settings.half_life_images
        if self.settings.ramp_up is not None:
            half_life = min(half_life, self.settings.ramp_up * images_seen)
        return 0.5 ** (num_images / half_life)

    @torch.no_grad()
    def update(self, images_seen: int, num_images: int) -> None:
        """Moves the average toward the current weights: a <- a + (1 - decay) (w - a)."""
        weight = 1.0 - self.decay(images_seen, num_images)
        torch._foreach_lerp_(list(self._average.values()), list(self._current.values()), weight)

    def state_dict(self) -> dict[str, Tensor]:
        """The module's state dict with averaged parameters in place of the current ones."""
        return {**self._module.state_dict(), **self._average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores the average. The caller has checked names and shapes against the module."""
        for name, average in self._average.items():
            average.copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the module runs with averaged weights; after, its own weights are back, bit for bit."""
        own = {name: p.detach().clone() for name, p in self._current.items()}
        try:
            self._assign(self._average)
            yield
        finally:
            self._assign(own)

    @torch.no_grad()
    def _assign(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._current.items():
            parameter.copy_(values[name])
