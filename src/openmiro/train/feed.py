"""Batches as a function of the step: data, caption choice, dropout, noise and times hang on positions alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from openmiro.core.seeds import normal, uniform
from openmiro.core.types import LatentBatch
from openmiro.flow.path import golden_uniform
from openmiro.train.distributed import Group
from openmiro.train.dropout import condition_dropout
from openmiro.train.recipe import Recipe
from openmiro.train.signals import STOP_SIGNALS
from openmiro.train.source import SampleSource

_PREFETCH = 4


@dataclass(frozen=True)
class Feed(Dataset[LatentBatch]):
    """The batch of any step, for this process's share of it.

    Attributes:
        recipe: seed, batch size, dropout and times.
        source: latents and conditions by position.
        share: the rows of each global batch that belong to this process.
    """

    recipe: Recipe
    source: SampleSource
    share: slice

    def __len__(self) -> int:
        return self.recipe.num_steps

    def __getitem__(self, step: int) -> LatentBatch:
        """The batch of step 0, 1, ...; the same whenever and wherever it is made."""
        recipe, size = self.recipe, self.recipe.batch_size
        positions = np.arange(step * size, (step + 1) * size)[self.share]
        samples = self.source.samples(positions)
        shape = samples.latent.shape[1:]
        offset = float(uniform(recipe.seed, "time offset", 0)[0, 0])
        return LatentBatch(
            latent=samples.latent,
            condition=condition_dropout(samples.condition, positions, recipe.seed, recipe.dropout),
            noise=normal(recipe.seed, "noise", positions, shape),
            time=recipe.time.times(golden_uniform(positions, offset)),
            keys=samples.keys,
        )

    def from_step(self, first: int, device: torch.device) -> Iterator[LatentBatch]:
        """Batches of the steps from `first` to the end, on the device.

        Worker processes only compute the same batches earlier: their number changes nothing.
        """
        workers = self.recipe.num_data_workers
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, len(self)),
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
            pin_memory=device.type == "cuda",
            # A forked process would inherit locks of arithmetic threads; a fresh one cannot hang on them.
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_leave_stopping_to_the_parent,
            # The default draws from torch's generator, which would then depend on how often a run was resumed.
            generator=torch.Generator(),
        )
        for batch in loader:
            yield batch.to(device)


def _leave_stopping_to_the_parent(worker: int) -> None:
    # Ctrl-C and a scheduler's signal reach the whole process group: a worker that died of it would take the run along
    # before its checkpoint. Workers end when they are told to, or when their parent is gone.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def open_share(recipe: Recipe, source: SampleSource, group: Group) -> Feed:
    """The feed of one process."""
    return Feed(recipe, source, group.share(recipe.batch_size))
