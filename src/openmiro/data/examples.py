"""Some pictures of a dataset with their captions and scores, to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from openmiro.data.columns import read_score_values
from openmiro.data.reading import reread
from openmiro.data.store import Dataset


@dataclass(frozen=True)
class Example:
    """One usable row.

    Attributes:
        key: of the row.
        image: RGB, as it is in the source.
        caption, synthetic: its captions.
        scores: "reward/column" -> raw score, NaN where missing.
    """

    key: str
    image: Image.Image
    caption: str
    synthetic: str | None
    scores: dict[str, float]


def examples(dataset: Dataset | Path | str, num: int) -> list[Example]:
    """At most `num` usable rows of the first shard that has some, evenly spaced.

    Raises:
        MissingFileError: the dataset or its source are not where they were.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    source = dataset.source()
    for shard in dataset.shards:
        rows = dataset.rows(shard).rows
        usable = np.flatnonzero([row.is_ok for row in rows])
        if not len(usable):
            continue
        picked = usable[np.unique(np.linspace(0, len(usable) - 1, min(num, len(usable))).astype(int))]
        columns = {
            f"{reward}/{column}": read_score_values(dataset.scores_path(reward, column, shard))
            for reward in dataset.rewards()
            for column in map(str, dataset.reward_spec(reward).columns)
        }
        pictures = [image for _, image in reread(source, shard, [rows[i] for i in picked])]
        return [
            Example(
                rows[i].key,
                image,
                rows[i].caption or "",
                rows[i].synthetic or rows[i].short_synthetic,
                {name: float(values[i]) for name, values in columns.items()},
            )
            for i, image in zip(picked, pictures)
        ]
    return []
