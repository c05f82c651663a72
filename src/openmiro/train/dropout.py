"""Withholding parts of the condition, so that the model also learns to do without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from openmiro.core.seeds import uniform
from openmiro.core.types import Condition
from openmiro.train.recipe import DropoutSettings


def condition_dropout(
    condition: Condition, positions: Sequence[int] | NDArray[np.integer], seed: int, settings: DropoutSettings
) -> Condition:
    """Drops captions (text mask all False) and levels (known False); row i depends on (seed, positions[i]) only.

    A level that was not known stays unknown: data gaps and dropout are one mechanism.
    """
    num_rewards = condition.known.shape[1]
    draws = torch.from_numpy(uniform(seed, "condition dropout", np.asarray(positions), num=2 + num_rewards))
    keep_text = draws[:, :1] >= settings.text
    keep_reward = (draws[:, 1:2] >= settings.all_rewards) & (draws[:, 2:] >= settings.reward)
    return replace(condition, text_mask=condition.text_mask & keep_text, known=condition.known & keep_reward)
