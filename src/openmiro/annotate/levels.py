"""Fitting the level tables of a dataset, exactly and in bounded memory, from its score files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmiro.core.errors import MissingFileError
from openmiro.data.columns import read_scores
from openmiro.data.status import ScoreStatus
from openmiro.data.store import Dataset
from openmiro.rewards.levels import DEFAULT_BINS, LevelTables, ScoreColumn, fit_levels


def fit_dataset_levels(
    dataset_folder: Path | str, num_bins: int = DEFAULT_BINS, rewards: Sequence[str] | None = None
) -> LevelTables:
    """Fits the levels of every reward with scores, over all captions together, and writes levels.json.

    Args:
        dataset_folder: an annotated dataset.
        num_bins: B.
        rewards: which rewards, in this order; None for all.

    Raises:
        MissingFileError: the dataset has no scores, or a shard was not scored; names the command.
        DamagedFileError: a score file is damaged.
    """
    dataset = Dataset.open(dataset_folder)
    names = list(dataset.rewards() if rewards is None else rewards)
    if not names:
        raise MissingFileError(
            f"{dataset.folder} has no scores. Run: openmiro annotate SOURCE --out {dataset.folder} --rewards classical"
        )
    tables = fit_levels([_column(dataset, name) for name in names], num_bins)
    tables.save(dataset.levels_path)
    return tables


def check_levels(dataset: Dataset, levels: LevelTables) -> None:
    """Verifies that levels were fitted on this dataset's scores.

    Raises:
        ProvenanceError: they were fitted on others; names the command.
    """
    levels.check_data({name: dataset.scores_fingerprint(name) for name in levels.names})


def _column(dataset: Dataset, reward: str) -> ScoreColumn:
    paths = dataset.score_paths(reward)
    fingerprint = dataset.scores_fingerprint(reward)

    def chunks() -> Iterator[NDArray[np.float32]]:
        for path in paths.values():
            scores = read_scores(path)
            # Rows without picture or caption never had a score; those where the reward gave none are counted.
            had = np.array([s in (ScoreStatus.OK, ScoreStatus.NOT_FINITE) for s in scores.status], bool)
            yield scores.values[had]

    return ScoreColumn(dataset.reward_spec(reward), chunks, fingerprint)
