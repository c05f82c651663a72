import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core.errors import MissingFileError
from openmiro.data.examples import examples
from openmiro.data.stats import dataset_stats, mean_ranks, rank_correlation, reward_stats, spearman


def test_numbers_of_a_dataset(made):
    found = dataset_stats(made)
    by_name = {(s.reward, s.column): s for s in found.rewards}
    assert set(by_name) == {
        ("text_number", "original"),
        ("text_number", "synthetic"),
        ("short_text_number", "original"),
        ("short_text_number", "synthetic"),
        ("width", "image"),
    }
    usable = [i for i in range(60) if i % 11 != 10]
    known = [i for i in usable if i % 10 != 7]
    original = by_name["text_number", "original"]
    assert (original.num_known, original.num_missing) == (len(known), len(usable) - len(known))
    assert (original.minimum, original.maximum, original.unit) == (min(known), max(known), "number")
    assert original.median == np.median(known)
    assert original.bin_counts.sum() == len(known)
    assert found.report.rows == {"image_unreadable": 5, "ok": 55}
    assert "60 rows = 55 ok + 5 image_unreadable" in found.accounting()
    assert found.correlation.names == ("short_text_number", "text_number", "width")
    assert found.correlation.matrix[0, 1] == pytest.approx(1)
    assert math.isnan(found.correlation.matrix[0, 2])  # every picture is 24 pixels wide
    assert [c.num for c in found.captions] == [55, sum(i % 3 != 2 for i in usable), sum(i % 3 == 1 for i in usable)]
    assert found.sizes.tolist() == [[24, 20]] * 55


def test_missing_scores_name_the_command(folder):
    (folder / "scores" / "width" / "image" / "00001.parquet").unlink()
    with pytest.raises(MissingFileError, match="--rewards width"):
        dataset_stats(folder)


def test_empty_and_constant_columns():
    empty = reward_stats("r", "image", "", np.full(5, np.nan, np.float32))
    assert (empty.num_known, empty.num_missing) == (0, 5)
    assert math.isnan(empty.median)
    constant = reward_stats("r", "image", "", np.full(5, 3, np.float32))
    assert constant.bin_counts.sum() == 5
    assert constant.minimum == constant.maximum == 3


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=40))
def test_ranks_have_the_mean_of_their_ties(values):
    ranks = mean_ranks(np.array(values, float))
    brute = [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]
    assert ranks.tolist() == brute


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=30, unique=True), st.randoms())
def test_spearman_of_distinct_values_is_the_textbook_formula(values, random):
    other = values.copy()
    random.shuffle(other)
    n, d = len(values), mean_ranks(np.array(values)) - mean_ranks(np.array(other))
    assert spearman(values, other) == pytest.approx(1 - 6 * (d**2).sum() / (n * (n**2 - 1)), abs=1e-9)


def test_spearman_leaves_missing_values_out():
    assert spearman([1, 2, np.nan, 3], [2, 4, 9, 8]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, np.inf]) == pytest.approx(-1)
    assert math.isnan(spearman([1.0], [2.0]))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_correlation_matrix_is_symmetric():
    columns = [np.random.default_rng(s).standard_normal(50).astype(np.float32) for s in range(3)]
    matrix = rank_correlation(["a", "b", "c"], columns).matrix
    assert np.array_equal(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1)


def test_examples(made):
    found = examples(made, 4)
    assert len(found) == 4
    assert found[0].caption == "this is o0"
    assert found[0].image.size == (24, 20)
    assert found[0].scores["text_number/original"] == 0
    assert len({e.key for e in found}) == 4
