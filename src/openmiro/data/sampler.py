"""Which row stands at a position of the endless, shuffled stream: a pure function, so there is no state to save.

Every epoch is a permutation of all rows. It is computed point by point with a Feistel network over the rows' bits
(walking on until the result is a row), so position -> row costs no memory however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmiro.core.errors import ConfigError, DataError
from openmiro.core.seeds import stream_key

_NUM_ROUNDS = 6
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class PositionSampler:
    """Positions 0, 1, 2, ... count samples since the start of training.

    Attributes:
        num_rows: rows of the dataset.
        seed: of the order.
        batch_size: samples of one step over all processes.
        shuffle: False gives the rows in their order, epoch after epoch.
    """

    num_rows: int
    seed: int
    batch_size: int = 1
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise DataError("there are no rows to train on")
        if self.batch_size < 1:
            raise ConfigError("batch_size must be at least 1")

    def locate(self, positions: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Epoch and row of positions, int64 of their shape."""
        at = np.asarray(positions, np.int64)
        epoch, rank = np.divmod(at, self.num_rows)
        return epoch, self._permuted(epoch, rank) if self.shuffle else rank

    def rows(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Row of positions."""
        return self.locate(positions)[1]

    def positions(self, step: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """The positions of one process in one step: a contiguous slice of the step's batch.

        Raises:
            ConfigError: the batch cannot be split evenly.
        """
        if self.batch_size % world_size:
            raise ConfigError(f"a batch of {self.batch_size} cannot be split evenly over {world_size} processes")
        share = self.batch_size // world_size
        start = step * self.batch_size + rank * share
        return np.arange(start, start + share, dtype=np.int64)

    def batches(
        self, first_step: int, num_steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[NDArray[np.int64]]:
        """`positions` of consecutive steps."""
        for step in range(first_step, first_step + num_steps):
            yield self.positions(step, rank, world_size)

    def _permuted(self, epoch: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.int64]:
        half = max(1, (max(1, self.num_rows - 1).bit_length() + 1) // 2)
        key = np.uint64(stream_key(self.seed, "order"))
        with np.errstate(over="ignore"):
            keys = _mix(epoch.astype(np.uint64) * _MULTIPLIER ^ key)
            result = _feistel(rank.astype(np.uint64), keys, half)
            # At most 4 values in 1 are no rows; each walk ends, because the network permutes.
            while (outside := result >= self.num_rows).any():
                result[outside] = _feistel(result[outside], keys[outside] if keys.ndim else keys, half)
        return result.astype(np.int64)


def _feistel(values: NDArray[np.uint64], keys: NDArray[np.uint64], half: int) -> NDArray[np.uint64]:
    """A permutation of the numbers of 2 `half` bits."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for number in range(_NUM_ROUNDS):
        mixed = _mix(right + keys + np.uint64(number) * _MULTIPLIER)
        left, right = right, left ^ (mixed >> np.uint64(32)) & mask
    return left << bits | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ x >> np.uint64(32)) * _MULTIPLIER
    x = (x ^ x >> np.uint64(32)) * _MULTIPLIER
    return x ^ x >> np.uint64(32)
