"""Multi-reward conditioned text-to-image pretraining, from raw shard to steered picture.

The names below are imported when they are first used, so that `import openmiro` itself costs nothing. The stages are
`openmiro.annotate.annotate`, `openmiro.annotate.encode`, `openmiro.annotate.fit_dataset_levels` and
`openmiro.train.loop.train`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmiro.pipeline import MiroPipeline
    from openmiro.rewards.catalog import load_reward
    from openmiro.rewards.levels import LevelTables
    from openmiro.train.recipe import load_recipe

__all__ = [
    "LevelTables",
    "MiroPipeline",
    "load_recipe",
    "load_reward",
]

_HOMES = {
    "LevelTables": "openmiro.rewards.levels",
    "MiroPipeline": "openmiro.pipeline",
    "load_recipe": "openmiro.train.recipe",
    "load_reward": "openmiro.rewards.catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'openmiro' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
