import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from openmiro.core.errors import DataError
from openmiro.rewards import histogram as module
from openmiro.rewards.histogram import Histogram, Refinement, count, order_statistics

BITS = st.integers(0, 2**32 - 1)
ANY_FLOAT = st.one_of(BITS, st.sampled_from([0, 0x80000000, 1, 0x80000001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000]))
TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45, 3.0])


def floats_of(bits):
    return np.array(bits, np.uint32).view(np.float32)


COLUMNS = st.one_of(
    st.lists(ANY_FLOAT, max_size=200).map(floats_of),
    st.lists(TIED, max_size=200).map(lambda x: np.array(x, np.float32)),
    arrays(np.float32, st.integers(0, 200), elements=st.floats(-4, 4, width=32)),
)


def finite_sorted(values):
    finite = values[np.isfinite(values)]
    return np.sort(np.where(finite == 0, np.float32(0), finite))


@settings(deadline=None)
@given(COLUMNS)
def test_every_rank_is_the_sorted_value(values):
    histogram = count(lambda: [values])
    expected = finite_sorted(values)
    assert histogram.num_values == len(expected)
    assert histogram.num_nan == np.isnan(values).sum()
    assert histogram.num_inf == np.isinf(values).sum()
    found = order_statistics(lambda: [values], histogram, range(len(expected)))
    np.testing.assert_array_equal([f.value for f in found], expected)
    assert [f.below for f in found] == [int((expected < f.value).sum()) for f in found]
    assert [f.equal for f in found] == [int((expected == f.value).sum()) for f in found]


@settings(deadline=None)
@given(COLUMNS, st.lists(st.integers(0, 200), max_size=4), st.randoms())
def test_shards_merge_in_any_order_to_the_same_counts(values, cuts, random):
    whole = Histogram().update(values)
    parts = [Histogram().update(p) for p in np.split(values, sorted(min(c, len(values)) for c in cuts))]
    random.shuffle(parts)
    merged = Histogram()
    for part in parts:
        merged = merged.merge(part)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert (merged.num_nan, merged.num_inf) == (whole.num_nan, whole.num_inf)


def test_refinements_merge_to_the_counts_of_the_whole():
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    cells = Histogram().update(values).cells_of([0, 100, 2500, 4999])
    whole = Refinement(cells).update(values)
    merged = Refinement(cells).update(values[3000:]).merge(Refinement(cells).update(values[:3000]))
    np.testing.assert_array_equal(merged.counts, whole.counts)
    with pytest.raises(ValueError, match="different cells"):
        whole.merge(Refinement(cells[:1]))


def test_a_column_in_one_piece_or_in_many_and_across_chunk_boundaries(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_VALUES", 64)
    values = np.random.default_rng(1).standard_normal((50, 20))
    flat = values.astype(np.float32).reshape(-1)
    one = Histogram().update(values)  # float64, two-dimensional
    many = count(lambda: np.array_split(flat, 13))
    np.testing.assert_array_equal(one.counts, many.counts)
    assert one.num_values == 1000


def test_more_cells_than_one_pass_refines(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 3)
    values = (10.0 ** np.random.default_rng(2).uniform(-30, 30, 400)).astype(np.float32)
    passes = []

    def chunks():
        passes.append(1)
        return [values]

    histogram = count(chunks)
    found = order_statistics(chunks, histogram, range(0, 400, 7))
    np.testing.assert_array_equal([f.value for f in found], np.sort(values)[::7])
    assert len(passes) > 3


def test_strided_and_read_only_input():
    values = np.arange(1000, dtype=np.float32)
    values.flags.writeable = False
    assert count(lambda: [values[::3]]).num_values == 334


def test_float64_beyond_the_range_counts_as_infinite():
    histogram = Histogram().update(np.array([1e300, -1e300, 1.0, np.nan]))
    assert (histogram.num_values, histogram.num_inf, histogram.num_nan) == (1, 2, 1)


def test_input_is_left_as_it_was():
    values = np.array([-0.0, 1.0], np.float32)
    Histogram().update(values)
    assert np.signbit(values[0])


def test_scores_that_change_between_the_passes_are_refused():
    columns = iter([np.zeros(10, np.float32), np.zeros(9, np.float32)])
    read = lambda: [next(columns)]  # noqa: E731
    with pytest.raises(DataError, match="changed"):
        order_statistics(read, count(read), [5])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300))
def test_one_value_repeated_is_every_rank(times):
    values = np.full(times, -7.25, np.float32)
    found = order_statistics(lambda: [values], count(lambda: [values]), [0, times // 2, times - 1])
    assert {(f.value, f.below, f.equal) for f in found} == {(np.float32(-7.25), 0, times)}
