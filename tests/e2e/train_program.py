"""A training run for tests that start it as a process: `python train_program.py RUN DATASET [key=value ...]`.

Each process writes its id beside the run folder, because torchrun's workers outlive a killed torchrun.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from openmiro.core.errors import OpenMiroError
from openmiro.train.loop import train
from openmiro.train.recipe import load_recipe
from openmiro.train.source import RandomSource

SETTINGS = (
    "images=320",
    "batch_size=8",
    "rewards=[aesthetic,alignment,shadow]",
    "sampling={}",
    "samples={}",
    "model={kind: dit, width: 16, depth: 1, heads: 2}",
    "checkpoint={every_images: 64, keep: 3}",
    "schedule={warmup_images: 16}",
    "log.every_steps=3",
    "precision=fp32",
    "threads=1",
)


@dataclass(frozen=True)
class Poisoned(RandomSource):
    """Random samples, one of which is not a number: `python train_program.py RUN poisoned`."""

    position: int = 30

    def samples(self, positions):
        samples = super().samples(positions)
        samples.latent[torch.as_tensor(positions) == self.position] = float("nan")
        return samples


RANDOM = {"random": RandomSource, "poisoned": Poisoned}


def main(run: str, dataset: str, *overrides: str) -> int:
    Path(f"{run}.pid{os.environ.get('RANK', '0')}").write_text(str(os.getpid()))
    recipe = load_recipe("lab-miro", [*SETTINGS, f"data.dataset={dataset}", *overrides])
    source = RANDOM[dataset]((4, 4, 4), recipe.rewards) if dataset in RANDOM else None
    try:
        train(recipe, Path(run), source=source)
    except OpenMiroError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
