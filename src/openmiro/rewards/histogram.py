"""Exact order statistics of float32 columns of any size, by counting: two passes, bounded memory, any order of merging.

A finite float32 has 32 bits whose order, after a fixed relabeling, is the order of the numbers. Pass one counts the
high 16 bits of every value (`Histogram`, 65,536 counters). That says in which of those *cells* a wanted rank lies, so
pass two counts the low 16 bits inside the wanted cells only (`Refinement`). Both are arrays of counts: histograms of
shards add to the histogram of the whole, in any order, to the same integers. Nothing is sampled or interpolated.

The two zeros are one value, subnormal numbers are values like any other, and NaN and infinities are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from openmiro.core.errors import DataError
from openmiro.core.types import batched

CHUNK_VALUES = 1 << 20
"""Values looked at together: 4 MiB, so that the working arrays of one chunk stay in the processor's cache."""
MAX_CELLS = 256
"""Cells refined in one pass: 128 MiB of counters. Wanting more costs another pass, not more memory."""

_NUM_CELLS = 1 << 16
_LOW_BITS = np.uint32(0xFFFF)
_NEGATIVE_ZERO = np.uint32(0x80000000)
_INFINITE_CELLS = [0x7F80, 0xFF80]
# The high bits of every cell in ascending order of value: negative numbers first, the largest magnitude leading.
_ASCENDING = np.concatenate([np.arange(0xFFFF, 0x7FFF, -1), np.arange(0, 0x8000)])

Chunks = Callable[[], Iterable[NDArray[np.floating]]]
"""Yields a column piece by piece; called once per pass, and every call must yield the same values in any order."""


@dataclass(frozen=True)
class RankedValue:
    """One value of a column and its place: `below` values are smaller, `equal` are the same (at least one)."""

    value: np.float32
    below: int
    equal: int


@dataclass
class Histogram:
    """Pass one: how many values fall into each cell (the values that share their high 16 bits).

    Attributes:
        counts: int64 [65536], finite values by their high 16 bits.
        num_nan, num_inf: values that have no rank.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_NUM_CELLS, np.int64))
    num_nan: int = 0
    num_inf: int = 0

    @property
    def num_values(self) -> int:
        """How many finite values were counted."""
        return int(self.counts.sum())

    def update(self, values: NDArray[np.floating]) -> Histogram:
        """Counts more values of any shape; float64 is rounded to float32. Returns itself."""
        for bits in _chunked_bits(values):
            counts = np.bincount((bits >> 16).astype(np.intp), minlength=_NUM_CELLS)
            special = int(counts[0x7F80:0x8000].sum() + counts[0xFF80:].sum())
            if special:
                infinite = int(np.isinf(bits.view(np.float32)).sum()) if counts[_INFINITE_CELLS].any() else 0
                counts[0x7F80:0x8000] = counts[0xFF80:] = 0
                self.num_inf += infinite
                self.num_nan += special - infinite
            self.counts += counts
        return self

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both columns together, as a new object."""
        return Histogram(self.counts + other.counts, self.num_nan + other.num_nan, self.num_inf + other.num_inf)

    def cells_of(self, ranks: Sequence[int]) -> NDArray[np.int64]:
        """The cell of each rank (0 is the smallest value), as high 16 bits."""
        through = np.cumsum(self.counts[_ASCENDING])
        return _ASCENDING[np.searchsorted(through, np.asarray(ranks, np.int64), side="right")]

    def below(self) -> NDArray[np.int64]:
        """How many values lie in cells of smaller values, [65536] by cell."""
        below = np.empty_like(self.counts)
        below[_ASCENDING] = np.cumsum(self.counts[_ASCENDING]) - self.counts[_ASCENDING]
        return below


@dataclass
class Refinement:
    """Pass two: how many values there are of every number inside some cells.

    Attributes:
        cells: int64 [M] distinct cells (high 16 bits).
        counts: int64 [M * 65536], by cell and by low 16 bits.
    """

    cells: NDArray[np.int64]
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.cells = np.unique(np.asarray(self.cells, np.int64))
        self.counts = np.zeros(len(self.cells) << 16, np.int64)
        self._is_wanted = np.zeros(_NUM_CELLS, bool)
        self._is_wanted[self.cells] = True
        self._row_of_cell = np.full(_NUM_CELLS, -1, np.int64)
        self._row_of_cell[self.cells] = np.arange(len(self.cells)) << 16

    def update(self, values: NDArray[np.floating]) -> Refinement:
        """Counts more values; those outside the cells are passed over. Returns itself."""
        for bits in _chunked_bits(values):
            inside = bits[self._is_wanted[bits >> 16]]
            places = self._row_of_cell[inside >> 16]
            places |= inside & _LOW_BITS
            np.add.at(self.counts, places, 1)
        return self

    def merge(self, other: Refinement) -> Refinement:
        """The counts of both columns together, as a new object. Both must refine the same cells."""
        if not np.array_equal(self.cells, other.cells):
            raise ValueError("refinements of different cells cannot be merged")
        merged = Refinement(self.cells)
        merged.counts += self.counts + other.counts
        return merged

    def ascending(self, cell: int) -> NDArray[np.int64]:
        """Counts [65536] inside one cell, smallest value first."""
        row = int(self._row_of_cell[cell])
        counts = self.counts[row : row + _NUM_CELLS]
        return counts[::-1] if cell >= 0x8000 else counts

    def find(self, cell: int, ranks: Sequence[int]) -> list[RankedValue]:
        """The values at the given ranks among the values of one cell, with their place in the cell."""
        counts = self.ascending(cell)
        through = np.cumsum(counts)
        places = np.searchsorted(through, np.asarray(ranks, np.int64), side="right")
        lows = 0xFFFF - places if cell >= 0x8000 else places
        values = ((cell << 16) | lows).astype(np.uint32).view(np.float32)
        return [RankedValue(v, int(through[p] - counts[p]), int(counts[p])) for v, p in zip(values, places)]


def count(chunks: Chunks) -> Histogram:
    """Pass one over a whole column."""
    histogram = Histogram()
    for values in chunks():
        histogram.update(values)
    return histogram


def order_statistics(chunks: Chunks, histogram: Histogram, ranks: Sequence[int]) -> list[RankedValue]:
    """The values at the given ranks (0 is the smallest), by pass two over the column that `histogram` counted.

    Raises:
        DataError: the column yields other values than in pass one.
    """
    cells = histogram.cells_of(ranks)
    below = histogram.below()
    found: list[RankedValue | None] = [None] * len(ranks)
    for group in batched(np.unique(cells).tolist(), MAX_CELLS):
        refinement = Refinement(np.asarray(group))
        for values in chunks():
            refinement.update(values)
        for cell in group:
            wanted = np.flatnonzero(cells == cell)
            inside = [ranks[int(i)] - int(below[cell]) for i in wanted]
            if refinement.ascending(cell).sum() != histogram.counts[cell]:
                raise DataError(
                    "the scores changed while their levels were being fitted. Wait for the writer, then run again."
                )
            for i, place in zip(wanted, refinement.find(cell, inside)):
                found[i] = replace(place, below=place.below + int(below[cell]))
    return [value for value in found if value is not None]


def _chunked_bits(values: NDArray[np.floating]) -> Iterator[NDArray[np.uint32]]:
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes an infinity and is counted as one
        column = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    for start in range(0, len(column), CHUNK_VALUES):
        bits = column[start : start + CHUNK_VALUES].view(np.uint32)
        # On the bits rather than by adding 0.0, which would flush subnormal numbers where the processor is told to.
        negative_zeros = bits == _NEGATIVE_ZERO
        if negative_zeros.any():
            bits = np.where(negative_zeros, np.uint32(0), bits)
        yield bits
