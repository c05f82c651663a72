import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.builders import flip_byte

from openmiro.core.artifact import check, record_path
from openmiro.core.errors import DamagedFileError, MissingFileError
from openmiro.data.columns import (
    Latents,
    Provenance,
    Scores,
    TextColumn,
    read_latents,
    read_row_columns,
    read_rows,
    read_score_values,
    read_scores,
    read_text,
    write_latents,
    write_rows,
    write_scores,
    write_text,
)
from openmiro.data.rows import Location, Row
from openmiro.data.status import CellStatus, RowFlag, RowStatus, ScoreStatus

MADE = Provenance({"version": 1}, {"rows": "abc"})

ROWS = (
    Row(
        "a",
        RowStatus.OK,
        "",
        (RowFlag.CAPTION_CUT,),
        "caption",
        None,
        "short",
        20,
        30,
        Location("", 512, 77),
        2**32 - 1,
    ),
    Row("b\ufffd", RowStatus.IMAGE_TRUNCATED, "detail", (), "x\ny", "long", None, 5, 6, Location("p/q", 0, 1), 0),
    Row("c", RowStatus.MISSING_IMAGE),
)


def test_rows_round_trip(tmp_path):
    path = tmp_path / "rows.parquet"
    record = write_rows(path, ROWS, ["a note"], MADE)
    table = read_rows(path)
    assert table.rows == ROWS
    assert table.notes == ("a note",)
    assert table.ok.tolist() == [True, False, False]
    assert record.counts == {"ok": 1, "image_truncated": 1, "missing_image": 1}
    assert read_row_columns(path, ["key"]).column("key").to_pylist() == ["a", "b\ufffd", "c"]


def test_no_rows(tmp_path):
    write_rows(tmp_path / "r.parquet", [], [], MADE)
    assert read_rows(tmp_path / "r.parquet").rows == ()
    write_scores(tmp_path / "s.parquet", [], Scores(np.empty(0, np.float32), ()), MADE)
    assert read_score_values(tmp_path / "s.parquet").shape == (0,)
    nothing = np.empty((0, 2, 3, 3), np.float16)
    write_latents(tmp_path / "l.arrow", [], Latents(nothing, None, np.empty(0, bool)), [], MADE)
    assert read_latents(tmp_path / "l.arrow").mean.shape == (0, 2, 3, 3)
    write_text(
        tmp_path / "t.arrow", [], TextColumn(np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, bool)), [], MADE
    )
    assert read_text(tmp_path / "t.arrow").offsets.tolist() == [0]


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32)))
def test_scores_round_trip_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("s") / "s.parquet"
    status = tuple(ScoreStatus.OK if np.isfinite(v) else ScoreStatus.NOT_FINITE for v in values)
    record = write_scores(path, [str(i) for i in range(len(values))], Scores(values, status), MADE)
    found = read_scores(path)
    finite = np.isfinite(values)
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values[finite].view(np.uint32), values[finite].view(np.uint32))
    assert np.isnan(found.values[~finite]).all()
    assert found.status == status
    assert record.num_rows == len(values)
    assert pq.read_table(path).column("score").null_count == int((~finite).sum())


def latents(num=6, with_std=True):
    rng = np.random.default_rng(0)
    mean, std = (rng.standard_normal((num, 4, 3, 2)).astype(np.float16) for _ in range(2))
    return Latents(mean, std if with_std else None, np.arange(num) % 3 != 1)


@pytest.mark.parametrize("with_std", [True, False])
def test_latents_round_trip_without_a_copy(tmp_path, with_std):
    path, written = tmp_path / "l.arrow", latents(with_std=with_std)
    status = [CellStatus.OK if p else CellStatus.ROW_REJECTED for p in written.present]
    record = write_latents(path, list("abcdef"), written, status, MADE)
    found = read_latents(path)
    assert np.array_equal(found.mean[found.present], written.mean[written.present])
    assert np.array_equal(found.present, written.present)
    assert (found.std is None) == (not with_std)
    if found.std is not None:
        assert np.array_equal(found.std[found.present], written.std[written.present])
    assert not found.mean.flags.owndata
    assert not found.mean.flags.writeable
    assert record.counts == {"ok": 4, "row_rejected": 2}
    stored = pa.ipc.open_file(path).read_all()
    assert stored.column("mean").null_count == 2
    assert stored.column("key").to_pylist() == list("abcdef")


@pytest.mark.parametrize("dim", [None, 5])
def test_text_round_trip_is_ragged(tmp_path, dim):
    rng = np.random.default_rng(0)
    offsets, present = np.array([0, 3, 3, 3, 7]), np.array([True, False, True, True])
    values = rng.integers(0, 99, 7).astype(np.int32) if dim is None else rng.standard_normal((7, 5)).astype(np.float16)
    status = [CellStatus.OK, CellStatus.NO_CAPTION, CellStatus.OK, CellStatus.OK]
    write_text(tmp_path / "t.arrow", list("abcd"), TextColumn(values, offsets, present), status, MADE)
    found = read_text(tmp_path / "t.arrow")
    assert np.array_equal(found.values, values)
    assert found.offsets.tolist() == offsets.tolist()
    assert found.present.tolist() == present.tolist()  # an empty caption is present, a missing one is not


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in "ab":
        write_rows(tmp_path / name / "r.parquet", ROWS, [], MADE)
        write_latents(tmp_path / name / "l.arrow", list("abcdef"), latents(), [CellStatus.OK] * 6, MADE)
    for name in ("r.parquet", "l.arrow", "r.parquet.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def write_each(folder):
    write_rows(folder / "rows.parquet", ROWS * 40, [], MADE)
    values = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    write_scores(folder / "scores.parquet", ["k"] * 500, Scores(values, (ScoreStatus.OK,) * 500), MADE)
    write_latents(folder / "latents.arrow", list("abcdef"), latents(), [CellStatus.OK] * 6, MADE)
    text = TextColumn(np.arange(7, dtype=np.int32), np.array([0, 3, 7]), np.ones(2, bool))
    write_text(folder / "text.arrow", ["a", "b"], text, [CellStatus.OK] * 2, MADE)
    return sorted(p for p in folder.iterdir() if p.suffix != ".json")


def test_any_flipped_byte_is_found_by_its_record(tmp_path):
    for path in write_each(tmp_path):
        check(path)
        content = path.read_bytes()
        for at in np.linspace(0, 0.999, 23):
            flip_byte(path, at)
            with pytest.raises(DamagedFileError, match=path.name):
                check(path)
            path.write_bytes(content)


def test_a_flipped_byte_in_a_parquet_page_is_found_on_reading(tmp_path):
    path = next(p for p in write_each(tmp_path) if p.name == "scores.parquet")
    found = 0
    content = path.read_bytes()
    for at in range(8, len(content) - 1500, 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with pytest.raises(DamagedFileError, match="damaged"):
            read_scores(path)
        found += 1
    assert found > 20


def test_truncated_and_missing_files(tmp_path):
    readers = {"rows": read_rows, "scores": read_scores, "latents": read_latents, "text": read_text}
    for path in write_each(tmp_path):
        content = path.read_bytes()
        for length in (0, 5, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(DamagedFileError):
                readers[path.stem](path)
        path.unlink()
        with pytest.raises(MissingFileError):
            readers[path.stem](path)


def test_a_file_of_another_kind(tmp_path):
    files = {p.stem: p for p in write_each(tmp_path)}
    with pytest.raises(DamagedFileError):
        read_latents(files["text"])
    with pytest.raises(DamagedFileError):
        read_text(files["latents"])
    with pytest.raises(DamagedFileError):
        read_rows(files["scores"])


def test_record_is_written_last(tmp_path):
    path = tmp_path / "s.parquet"
    write_scores(path, ["a"], Scores(np.ones(1, np.float32), (ScoreStatus.OK,)), MADE)
    assert record_path(path).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.parquet", "s.parquet.json"]
