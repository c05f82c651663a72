"""Training samples from a dataset folder."""

from __future__ import annotations

from openmiro.train.recipe import Recipe
from openmiro.train.source import SampleSource


def open_dataset(recipe: Recipe) -> SampleSource:
    raise NotImplementedError
