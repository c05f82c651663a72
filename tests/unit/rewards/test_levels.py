from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from openmiro.core.artifact import write_json
from openmiro.core.errors import (
    ConfigError,
    DamagedFileError,
    MissingFileError,
    ProvenanceError,
    TargetError,
    UnknownNameError,
)
from openmiro.core.types import RewardSet, RewardSpec
from openmiro.rewards.levels import LevelTable, LevelTables, ScoreColumn, fit_level_table, fit_levels

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.25, 1e-45, -1e-45, 3.4028234663852886e38, -3.4028234663852886e38])
COLUMNS = st.one_of(
    st.lists(TIED, min_size=1, max_size=150).map(lambda x: np.array(x, np.float32)),
    arrays(np.float32, st.integers(1, 150), elements=FINITE),
    st.integers(1, 500).map(lambda n: np.random.default_rng(n).standard_normal(n).astype(np.float32)),
    # A tied block somewhere inside distinct values, as saturated scorers give.
    st.tuples(st.integers(1, 60), st.integers(1, 100), st.integers(0, 60)).map(
        lambda t: np.concatenate([-np.arange(1, t[0] + 1), np.zeros(t[1]), np.arange(1, t[2] + 1)]).astype(np.float32)
    ),
)
BINS = st.one_of(st.integers(2, 70), st.just(64))


def spec(name="taste", version="1"):
    return RewardSpec(name=name, unit="points", needs_text=False, version=version)


def next_float(value, toward):
    with np.errstate(over="ignore"):
        return np.nextafter(value, np.float32(toward))


def fit(values, num_bins=64, parts=1, **kwargs):
    values = np.asarray(values, np.float32)
    return fit_level_table(ScoreColumn(spec(), lambda: np.array_split(values, parts), **kwargs), num_bins)


def brute_force_bin(values, v, num_bins):
    """The definition, in exact fractions over the sorted column."""
    less, equal = int((values < v).sum()), int((values == v).sum())
    rank = Fraction(2 * less + equal, 2 * len(values))
    return min(int(rank * num_bins), num_bins - 1)


@settings(max_examples=200, deadline=None)
@given(COLUMNS, BINS, st.lists(FINITE, max_size=10))
def test_bins_follow_the_definition_for_fitted_and_unseen_values(values, num_bins, unseen):
    table = fit(values, num_bins)
    around = [next_float(v, toward) for v in values[:10] for toward in (-np.inf, np.inf)]
    probes = np.array([*np.unique(values), *around, *unseen], np.float32)
    probes = probes[np.isfinite(probes)]
    expected = [brute_force_bin(values, v, num_bins) for v in probes]
    np.testing.assert_array_equal(table.bins(probes), expected)


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_levels_lie_in_the_unit_interval_and_never_fall(values, num_bins):
    level, known = fit(values, num_bins).transform(np.sort(values))
    assert known.all()
    assert level.dtype == np.float32
    assert (level >= 0).all()
    assert (level <= 1).all()
    assert (np.diff(level) >= 0).all()


@settings(deadline=None)
@given(st.integers(1, 2000), BINS)
def test_distinct_scores_fill_bins_equally(n, num_bins):
    values = np.random.default_rng(n).permutation(n).astype(np.float32) - n / 3
    population = np.bincount(fit(values, num_bins).bins(values), minlength=num_bins)
    assert population.max() - population.min() <= 1
    assert abs(population.sum() - n) == 0


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_population_of_a_bin_is_its_share_up_to_its_ties(values, num_bins):
    table = fit(values, num_bins)
    bins = table.bins(values)
    largest_tie = np.unique(values + np.float32(0), return_counts=True)[1].max()
    for b in np.unique(bins):
        assert (bins == b).sum() <= len(values) / num_bins + largest_tie


def test_mean_level_of_a_continuous_score_is_one_half():
    values = np.random.default_rng(0).gamma(2.0, size=100_000).astype(np.float32)
    level, _ = fit(values).transform(values)
    assert abs(level.mean() - 0.5) < 1e-3
    assert abs(level.std() - np.sqrt(1 / 12)) < 0.01


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_edges_are_numpy_quantiles_or_the_next_float(values, num_bins):
    table = fit(values, num_bins)
    quantiles = np.sort(values)[[-(-len(values) * b // num_bins) - 1 for b in range(1, num_bins)]]
    for edge, quantile in zip(table.edges, quantiles):
        above = next_float(quantile, np.inf)
        assert np.float32(np.inf if edge is None else edge) in (quantile, above)


def test_edges_of_distinct_scores_equal_numpy():
    values = np.random.default_rng(3).standard_normal(6400).astype(np.float32)
    ours = np.array(fit(values).edges, np.float32)
    numpys = np.quantile(values, np.arange(1, 64) / 64, method="inverted_cdf")
    # 64 divides 6400, so score b n / B - 1 ends bin b - 1 and the edge lies just above it.
    np.testing.assert_array_equal(ours, next_float(numpys, np.inf))


@settings(deadline=None)
@given(COLUMNS, BINS, st.integers(1, 7), st.randoms(use_true_random=False))
def test_sharding_and_order_do_not_change_the_table(values, num_bins, parts, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert fit(values, num_bins).dump() == fit(shuffled, num_bins, parts).dump()


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_level_to_raw_to_level_is_the_identity_on_bins_with_scores(values, num_bins):
    table = fit(values, num_bins)
    for b in np.unique(table.bins(values)):
        level = float(b) / (num_bins - 1)
        raw = table.inverse(level)
        assert np.float32(raw) in values
        assert table.bins(raw) == b
        assert table.to_level(raw) == pytest.approx(level, abs=1e-6)
        assert table.inverse(float(np.float32(level))) == raw


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_raw_to_level_to_raw_stays_in_the_bin(values, num_bins):
    table = fit(values, num_bins)
    back = table.inverse_array(table.transform(values)[0])
    np.testing.assert_array_equal(table.bins(back), table.bins(values))


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_inverse_ascends_and_is_always_a_fitted_score(values, num_bins):
    centers = fit(values, num_bins).inverse_array(np.linspace(0, 1, num_bins))
    assert np.isin(centers, values).all()
    assert (np.diff(centers.astype(np.float64)) >= 0).all()


@settings(deadline=None)
@given(COLUMNS, BINS)
def test_a_table_survives_its_file(values, num_bins):
    table = fit(values, num_bins)
    again = LevelTable.parse(table.dump())
    assert again == table
    np.testing.assert_array_equal(again.bins(values), table.bins(values))


def test_a_constant_column_has_one_middle_level():
    table = fit(np.full(1000, 0.7))
    assert table.to_level(0.7) == np.float32(32 / 63)
    assert table.inverse(0.0) == table.inverse(1.0) == pytest.approx(0.7)
    assert table.to_level(0.6) == 0
    assert table.to_level(0.8) == 1


def test_a_saturated_column_keeps_the_mass_of_its_ties():
    rng = np.random.default_rng(4)
    values = np.concatenate([np.ones(750), rng.random(250)]).astype(np.float32)
    table = fit(values)
    # Mid-rank of the block: (250 + 750 / 2) / 1000 = 0.625, bin 40 of 64.
    assert table.to_level(1.0) == np.float32(40 / 63)
    level, _ = table.transform(values)
    assert level[750:].max() < 16 / 63 + 1e-6
    assert set(table.bins(values[750:])) == set(range(16))
    assert table.to_level(1.5) == 1
    assert table.inverse(40 / 63) == table.inverse(1.0) == 1.0


def test_a_block_that_reaches_into_a_bin_leaves_the_bin_its_own_center():
    # Two bins; the middle rank of the upper one, 0.75, is a zero, and its own scores are 5, 6 and 7.
    assert fit(np.array([0] * 9 + [5, 6, 7]), 2).centers == (0.0, 6.0)


def test_an_all_missing_column_is_unknown_everywhere():
    for values in ([], [np.nan] * 5, [np.inf, -np.inf, np.nan]):
        table = fit(np.array(values, np.float32))
        level, known = table.transform([0.5, np.nan, 1.0])
        assert not known.any()
        assert (level == 0).all()
        assert (table.minimum, table.maximum, table.edges) == (None, None, ())
        with pytest.raises(TargetError, match="not one finite score"):
            table.inverse(0.5)
        with pytest.raises(TargetError, match="not one finite score"):
            table.to_level(0.5)
        assert LevelTable.parse(table.dump()) == table


def test_nan_and_infinities_are_counted_left_out_and_unknown():
    values = np.array([np.nan, 1, 2, np.inf, 3, -np.inf, np.nan, np.nan], np.float32)
    table = fit(values)
    assert (table.num_values, table.num_nan, table.num_inf) == (3, 3, 2)
    assert table.edges == fit(np.array([1, 2, 3])).edges
    level, known = table.transform(values.reshape(2, 4))
    np.testing.assert_array_equal(known, np.isfinite(values).reshape(2, 4))
    assert (level[~known] == 0).all()
    with pytest.raises(TargetError, match="not a finite number"):
        table.to_level(float("nan"))


def test_both_zeros_are_one_value_and_subnormal_numbers_are_values():
    tiny = np.float32(1e-45)
    table = fit(np.array([-0.0, 0.0, tiny, -tiny], np.float32), 4)
    np.testing.assert_array_equal(table.bins(np.array([-tiny, -0.0, 0.0, tiny], np.float32)), [0, 2, 2, 3])


@pytest.mark.parametrize("level", [-0.01, 1.01, float("nan"), float("inf")])
def test_levels_outside_the_unit_interval_are_refused(level):
    with pytest.raises(TargetError, match=r"'taste' must lie in \[0, 1\]"):
        fit([1, 2, 3]).inverse(level)


@pytest.mark.parametrize("num_bins", [1, 0, -3])
def test_fewer_than_two_bins_are_refused(num_bins):
    with pytest.raises(ConfigError, match="at least 2 bins"):
        fit([1, 2], num_bins)


def test_many_bins_for_few_scores():
    table = fit([1, 2, 3], 1000)
    np.testing.assert_array_equal(table.bins([0, 1, 2, 3, 4]), [0, 166, 500, 833, 999])


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3))
def test_only_the_order_of_scores_matters(shift, scale):
    raw = np.random.default_rng(5).permutation(200)
    moved = (raw * scale + shift).astype(np.float32)
    assert len(np.unique(moved)) == 200
    np.testing.assert_array_equal(fit(raw).bins(raw), fit(moved).bins(moved))


# Sets of tables


@pytest.fixture
def tables():
    rng = np.random.default_rng(6)
    columns = {name: rng.standard_normal(500).astype(np.float32) for name in ("c", "a", "b")}
    return fit_levels([ScoreColumn(spec(n), lambda v=v: [v], data=f"data-{n}") for n, v in columns.items()], 16)


def test_tables_keep_the_declared_order_and_take_parts(tables):
    assert tables.names == ("c", "a", "b")
    part = tables.subset(["b", "c"])
    assert part.names == part.rewards.names == ("b", "c")
    assert part.table("b") == tables.table("b")
    level, known = part.transform("b", [0.0])
    assert level == tables.table("b").to_level(0.0) == part.to_level("b", 0.0)
    assert known.all()
    assert part.inverse("c", 0.5) == tables.table("c").inverse(0.5)
    with pytest.raises(UnknownNameError, match="Choices: a, b, c"):
        tables.table("d")


def test_tables_survive_their_file_and_equal_tables_give_equal_bytes(tables, tmp_path):
    tables.save(tmp_path / "levels.json")
    again = LevelTables.load(tmp_path / "levels.json")
    assert again == tables
    assert again.fingerprint() == tables.fingerprint()
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "levels.json").read_bytes()


def test_the_fingerprint_follows_the_tables_and_not_the_package(tables):
    other = LevelTables(tables=tables.tables, openmiro_version="99")
    assert other.fingerprint() == tables.fingerprint()
    assert tables.subset(["a", "b", "c"]).fingerprint() != tables.fingerprint()


def test_levels_of_other_data_are_refused(tables):
    tables.check_data({"a": "data-a", "b": "data-b"})
    with pytest.raises(ProvenanceError, match=r"'a' were fitted on other data.*openmiro levels fit"):
        tables.check_data({"a": "data-x"})
    with pytest.raises(UnknownNameError):
        tables.check_data({"d": "data-d"})


def test_levels_of_another_version_of_a_reward_are_refused(tables):
    tables.check_rewards(RewardSet(specs=(spec("a"), spec("c"))))
    with pytest.raises(ProvenanceError, match="version 1, but version 2"):
        tables.check_rewards(RewardSet(specs=(spec("a", version="2"),)))
    with pytest.raises(UnknownNameError):
        tables.check_rewards(RewardSet(specs=(spec("d"),)))


def test_a_reward_twice_is_refused(tables):
    with pytest.raises(ConfigError, match="twice"):
        LevelTables(tables=(tables.tables[0], tables.tables[0]))


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingFileError, match="openmiro levels fit"):
        LevelTables.load(tmp_path / "levels.json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["tables"][0].update(edges=d["tables"][0]["edges"][::-1]),
        lambda d: d["tables"][0].update(centers=d["tables"][0]["centers"][1:]),
        lambda d: d["tables"][0].update(num_bins=17),
        lambda d: d["tables"][0].update(num_bins=1),
        lambda d: d["tables"][0].update(num_values=-1),
        lambda d: d["tables"][0].update(method="uniform"),
        lambda d: d["tables"][0].update(minimum=None),
        lambda d: d["tables"][0].update(extra=1),
        lambda d: d["tables"][0]["edges"].__setitem__(0, None),
        lambda d: d["tables"][0]["edges"].__setitem__(0, "-9"),
        lambda d: d["tables"][0]["centers"].__setitem__(0, 1e300),
        lambda d: d.pop("tables"),
        lambda d: d.update(schema_version=2),
        lambda d: d["tables"].append(d["tables"][0]),
    ],
)
def test_damaged_files_are_refused(tables, tmp_path, damage):
    values = tables.dump()
    damage(values)
    write_json(tmp_path / "levels.json", values)
    with pytest.raises(DamagedFileError, match=r"levels\.json is not a file of level tables"):
        LevelTables.load(tmp_path / "levels.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '"levels"'])
def test_files_that_are_no_tables_at_all_are_refused(tmp_path, text):
    (tmp_path / "levels.json").write_text(text)
    with pytest.raises(DamagedFileError):
        LevelTables.load(tmp_path / "levels.json")
