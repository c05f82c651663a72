"""Training samples from a dataset folder, with every check that stands between a mistake and a long run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmiro.codecs.catalog import load_codec, load_text_encoder
from openmiro.core.artifact import check, record_fingerprint
from openmiro.core.config import fingerprint
from openmiro.core.errors import ConfigError, MissingFileError
from openmiro.core.types import CaptionKind, Condition, RewardSet
from openmiro.data.dataset import TrainingData
from openmiro.data.store import Dataset
from openmiro.rewards.levels import LevelTables
from openmiro.train.recipe import Recipe
from openmiro.train.source import Origin, Samples


@dataclass(frozen=True)
class DatasetSource:
    """Implements `SampleSource` on a dataset's columns.

    Attributes:
        data: the columns.
        levels: tables of the recipe's rewards, in its order; None where it has none.
        seed: of order, caption choice and latent noise.
        synthetic_share: probability of the synthetic caption where a row has both.
        fingerprint: of everything that decides a sample.
    """

    data: TrainingData
    levels: LevelTables | None
    seed: int
    synthetic_share: float
    fingerprint: str

    @property
    def model_inputs(self) -> dict[str, Any]:
        encoder: Any = load_text_encoder(self.data.encoder_folder) if self.data.text_dim is None else None
        return {
            "latent_shape": list(self.data.latent_shape),
            "num_rewards": len(self.data.rewards),
            "max_text_tokens": self.data.max_tokens,
            "text_dim": self.data.text_dim,
            "vocabulary_size": None if encoder is None else encoder.vocabulary_size,
        }

    def samples(self, positions: NDArray[np.integer]) -> Samples:
        """The samples at some positions."""
        batch = self.data.batch(positions, self.seed, self.synthetic_share)
        return Samples(batch.latent, Condition(batch.text, batch.text_mask, batch.level, batch.known), batch.keys)

    def origin(self) -> Origin:
        """Codec, text encoder and levels, from the dataset."""
        return Origin(
            rewards=self.data.rewards,
            levels=self.levels,
            resolution=_resolution(self.data),
            codec=load_codec(self.data.codec_folder),
            text_encoder=load_text_encoder(self.data.encoder_folder),
        )


def open_dataset(recipe: Recipe) -> DatasetSource:
    """The source of a recipe's dataset.

    Raises:
        ConfigError: the recipe names no dataset, or columns that it does not have.
        MissingFileError: a stage was not run; names the command.
        DamagedFileError: a column is not what its record says.
        ProvenanceError: levels were fitted on other scores, or columns were made from other rows.
        DataError: no row can be used.
    """
    if recipe.data.dataset is None:
        raise ConfigError(
            f"the recipe {recipe.name} names no dataset. Write: openmiro train {recipe.name} --data DATASET"
            " (or data.dataset=DATASET)"
        )
    dataset = Dataset.open(Path(recipe.data.dataset))
    rewards = RewardSet(specs=tuple(dataset.reward_spec(name) for name in recipe.rewards))
    levels = _levels(dataset, rewards) if recipe.rewards else None
    data = TrainingData.open(
        dataset,
        rewards,
        levels.transform if levels else _no_levels,
        codec=recipe.data.codec,
        encoder=recipe.data.text_encoder,
    )
    return DatasetSource(data, levels, recipe.seed, recipe.data.synthetic_share, _fingerprint(data, levels))


def _levels(dataset: Dataset, rewards: RewardSet) -> LevelTables:
    if not dataset.levels_path.exists():
        raise MissingFileError(f"{dataset.folder} has no levels yet. Run: openmiro levels fit {dataset.folder}")
    levels = LevelTables.load(dataset.levels_path).subset(rewards.names)
    levels.check_rewards(rewards)
    levels.check_data({name: dataset.scores_fingerprint(name) for name in rewards.names})
    return levels


def _no_levels(name: str, raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    raise AssertionError(f"levels of '{name}' asked for by a run without rewards")


def _resolution(data: TrainingData) -> int:
    path = data.dataset.latents_path(data.codec, data.dataset.shards[0])
    return int(check(path).producer["resolution"])


def _fingerprint(data: TrainingData, levels: LevelTables | None) -> str:
    dataset, shards = data.dataset, data.dataset.shards
    captions = [(kind, shard) for kind in CaptionKind for shard in shards]
    return fingerprint(
        {
            "rows": dataset.rows_fingerprint(),
            "scores": {name: dataset.scores_fingerprint(name) for name in data.rewards.names},
            "levels": None if levels is None else levels.fingerprint(),
            "latents": record_fingerprint({shard: dataset.latents_path(data.codec, shard) for shard in shards}),
            "text": record_fingerprint({f"{k}/{s}": dataset.text_path(data.encoder, k, s) for k, s in captions}),
        }
    )
