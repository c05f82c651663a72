"""Randomness as a function of (seed, purpose, position), so that nothing hidden has to be saved or restored.

Each draw hashes a counter (SplitMix64's finalizer) instead of advancing a state. Resuming, changing the number of data
workers or processes, or changing the batch size therefore does not change what a position sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_key(seed: int, purpose: str) -> int:
    """A 64-bit key of one independent stream of random numbers."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def uniform(seed: int, purpose: str, positions: ArrayLike, num: int = 1) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape [len(positions), num]; row i depends on positions[i] only."""
    rows = np.atleast_1d(np.asarray(positions)).astype(np.uint64)
    with np.errstate(over="ignore"):
        counters = rows[:, None] * np.uint64(num) + np.arange(num, dtype=np.uint64)
        bits = _mix(_mix(counters * _GOLDEN + np.uint64(stream_key(seed, purpose))) + _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, purpose: str, positions: Sequence[int] | NDArray[np.int64], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise, float32 [len(positions), *shape], on the CPU; row i depends on positions[i] only."""
    noise = torch.empty(len(positions), *shape)
    for row, position in enumerate(positions):
        noise[row].normal_(generator=generator(seed, purpose, int(position)))
    return noise


def generator(seed: int, purpose: str, position: int = 0) -> torch.Generator:
    """A CPU generator at the start of the stream (seed, purpose, position)."""
    return torch.Generator().manual_seed(stream_key(seed, f"{purpose}/{position}") >> 1)


def numpy_generator(seed: int, purpose: str, position: int = 0) -> np.random.Generator:
    """A NumPy generator at the start of the stream (seed, purpose, position)."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, f"{purpose}/{position}")))


def permutation(seed: int, purpose: str, epoch: int, size: int) -> NDArray[np.int64]:
    """A permutation of range(size), a function of (seed, purpose, epoch)."""
    return numpy_generator(seed, purpose, epoch).permutation(size)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
