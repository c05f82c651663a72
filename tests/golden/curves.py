"""The runs whose loss curves are kept. `python tests/golden/curves.py` writes the curves anew: only after a change that
is meant to change them, with the reason in the commit message."""

import json
import tempfile
from pathlib import Path

import torch

from openmiro.core.log import read_metrics
from openmiro.train.loop import train
from openmiro.train.recipe import load_recipe
from openmiro.train.source import RandomSource

FOLDER = Path(__file__).parent
_COMMON = (
    "images=400",
    "batch_size=8",
    "rewards=[aesthetic,alignment,shadow]",
    "sampling={}",
    "samples={}",
    "model={kind: dit, patch: 1, width: 32, depth: 2, heads: 2}",
    "checkpoint.every_images=400",
    "schedule={warmup_images: 80, decay: linear}",
    "log.every_steps=10",
    "precision=fp32",
    "threads=1",
)
CURVES = {
    "dit-adamw": (*_COMMON, "optimizer={kind: adamw, learning_rate: 1e-3, weight_decay: 0.01, epsilon: 1e-6}"),
    "dit-muon": (*_COMMON, "optimizer={kind: muon, learning_rate: 1e-3, adamw_learning_rate: 1e-3, epsilon: 1e-6}"),
}


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def losses(name: str, run: Path) -> list[float]:
    """Loss of each of the 50 steps."""
    recipe = load_recipe("lab-miro", CURVES[name])
    train(recipe, run, source=RandomSource((4, 6, 6), recipe.rewards), device="cpu")
    return [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")]


def main() -> None:
    for name in CURVES:
        with tempfile.TemporaryDirectory() as folder:
            content = {"settings": list(CURVES[name]), "torch": torch.__version__, "losses": losses(name, Path(folder))}
        path_of(name).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
