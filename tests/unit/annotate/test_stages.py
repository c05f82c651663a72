import json
import shutil

import numpy as np
import pytest
from tests.builders import pair, picture, tree_bytes, write_shards, write_tar
from tests.toys import CALLS

from openmiro.annotate import annotate, encode, fit_dataset_levels
from openmiro.core.artifact import read_record
from openmiro.core.errors import (
    BudgetExceededError,
    ConfigError,
    DataError,
    MissingFileError,
    ProvenanceError,
    UnknownNameError,
)
from openmiro.core.types import CaptionKind
from openmiro.data.columns import read_scores
from openmiro.data.images import Limits
from openmiro.data.status import ScoreStatus
from openmiro.data.store import Dataset
from openmiro.data.verify import verify

TOYS = ["tests.toys:TextNumber", "tests.toys:ShortTextNumber", "tests.toys:Width"]


def numbered(key, i, **fields):
    """A row whose texts carry its number."""
    return pair(key, i, f"this is o{i}", synthetic_caption=f"that is s{i}", short_synthetic_caption=f"t{i}", **fields)


@pytest.fixture
def mixed(tmp_path):
    """A tar of nine rows, five of them usable."""
    rows = [*numbered("a", 1), *numbered("b", 7), *pair("c", 3, "only o3")]
    wide = [("d.png", picture(4, (33, 20))), ("d.txt", "this is o4")]
    short_only = pair("e", 5, "this is o6", short_synthetic_caption="just t6")
    bad = [("f.png", picture()[:200]), ("f.txt", "o6"), ("g.png", b"<html>"), ("g.txt", "o7"), ("h.png", picture())]
    return write_tar(tmp_path / "mixed.tar", [*rows, *wide, *short_only, *bad, ("i.txt", "o9")])


def test_every_row_is_accounted_for(mixed, tmp_path):
    report = annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=0.5)
    expected = {"ok": 5, "image_truncated": 1, "image_unreadable": 1, "missing_caption": 1, "missing_image": 1}
    assert report.accounting.rows == expected
    assert report.accounting.num_rows == sum(expected.values()) == 9
    stored = json.loads((tmp_path / "d" / "report.json").read_text())
    assert stored["rows"] == expected
    assert all(sum(counts.values()) == 9 for counts in stored["scores"].values())
    account = "9 rows = 5 ok + 1 image_truncated + 1 image_unreadable + 1 missing_caption + 1 missing_image"
    assert account in report.summary()


def test_scores_go_with_their_captions(mixed, tmp_path):
    dataset = Dataset.open(annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=0.5).dataset)

    def scores(reward, column):
        return read_scores(dataset.scores_path(reward, column, "mixed"))

    nan = np.nan
    original, synthetic = scores("text_number", "original"), scores("text_number", "synthetic")
    assert np.array_equal(original.values[:5], [1, nan, 3, 4, 6], equal_nan=True)
    assert np.array_equal(synthetic.values[:5], [1001, 1007, nan, nan, 2006], equal_nan=True)
    s = ScoreStatus
    assert original.status == (s.OK, s.NOT_FINITE, s.OK, s.OK, s.OK, *[s.ROW_REJECTED] * 4)
    assert synthetic.status == (s.OK, s.OK, s.NO_CAPTION, s.NO_CAPTION, s.OK, *[s.ROW_REJECTED] * 4)
    short = scores("short_text_number", "synthetic")
    assert np.array_equal(short.values[:5], [2001, 2007, nan, nan, 2006], equal_nan=True)
    width = scores("width", "image")
    assert np.array_equal(width.values[:5], [24, 24, 24, nan, 24], equal_nan=True)
    assert width.status[3] == s.NOT_FINITE


def test_each_picture_is_looked_at_once_per_reward(tmp_path):
    CALLS.clear()
    annotate(
        write_tar(tmp_path / "a.tar", [m for i in (1, 2, 3) for m in numbered(f"{i}", i)]),
        tmp_path / "d",
        TOYS,
        num_workers=0,
    )
    assert CALLS["text_number preprocess"] == CALLS["text_number encode"] == 3
    assert CALLS["text_number score"] == 6  # two captions of three rows
    assert CALLS["width score"] == 3


def test_a_second_run_does_nothing(mixed, tmp_path):
    annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=1)
    before = tree_bytes(tmp_path / "d")
    CALLS.clear()
    again = annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=1)
    assert not CALLS
    assert sum(t.files_written for t in again.tasks) == 0
    assert tree_bytes(tmp_path / "d") == before


def test_a_reward_added_later_adds_files_and_gives_the_same_bytes(mixed, tmp_path):
    for names in (TOYS[:1], TOYS):
        annotate(mixed, tmp_path / "steps", names, num_workers=0, max_bad_share=1)
    annotate(mixed, tmp_path / "once", TOYS, num_workers=0, max_bad_share=1)
    assert tree_bytes(tmp_path / "steps") == tree_bytes(tmp_path / "once")


def test_processes_write_the_same_bytes(tmp_path):
    shards = write_shards(tmp_path / "s", 30)
    annotate(shards, tmp_path / "one", ["classical"], num_workers=0)
    annotate(shards, tmp_path / "two", ["classical"], num_workers=2)
    encode(tmp_path / "one", resolution=16, num_workers=0)
    encode(tmp_path / "two", resolution=16, num_workers=2)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


def test_another_version_of_a_reward_is_scored_again(mixed, tmp_path):
    annotate(mixed, tmp_path / "d", ["tests.toys:Width"], num_workers=0, max_bad_share=1)
    CALLS.clear()
    annotate(mixed, tmp_path / "d", ["tests.toys:WidthTwo"], num_workers=0, max_bad_share=1)
    assert CALLS["width score"] == 5
    assert Dataset.open(tmp_path / "d").reward_spec("width").version == "2"


def test_bad_row_budget(mixed, tmp_path):
    with pytest.raises(BudgetExceededError, match=r"44\.4%.*report\.json.*--max-bad-share") as caught:
        annotate(mixed, tmp_path / "d", TOYS, num_workers=0)
    assert caught.value.exit_code == 3
    assert verify(tmp_path / "d") == []  # the work is done
    annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=0.5)


def test_truncated_shard_needs_consent(tmp_path):
    path = write_tar(tmp_path / "a.tar", [m for i in range(40) for m in pair(f"{i:02}", i)])
    path.write_bytes(path.read_bytes()[:-11_000])
    with pytest.raises(BudgetExceededError, match="shard_truncated"):
        annotate(path, tmp_path / "d", num_workers=0)
    report = annotate(path, tmp_path / "d", num_workers=0, max_bad_share=1)
    assert report.accounting.num_ok >= 38
    assert "shard_truncated" in report.summary()


def test_no_usable_rows(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.png", b"x"), ("a.txt", "x")])
    with pytest.raises(DataError, match="usable rows: 1 rows = 0 ok"):
        annotate(path, tmp_path / "d", ["classical"], num_workers=0, max_bad_share=1)
    (tmp_path / "junk.tar").write_bytes(b"not a tar" * 1000)
    with pytest.raises(DataError, match="usable rows"):
        annotate(tmp_path / "junk.tar", tmp_path / "j", num_workers=0)
    with pytest.raises(DataError, match="no usable rows"):
        encode(tmp_path / "d", num_workers=0)


@pytest.mark.parametrize(("toy", "message"), [("Failing", "out of order"), ("WrongShape", "shape")])
def test_a_failing_reward_stops_and_names_shard_and_rows(mixed, tmp_path, toy, message):
    with pytest.raises(DataError, match=message) as caught:
        annotate(mixed, tmp_path / "d", [f"tests.toys:{toy}"], num_workers=0)
    if toy == "Failing":
        assert "shard mixed, rows 'a' to 'e'" in str(caught.value)
    assert not (tmp_path / "d" / "scores").exists()


def test_a_failing_reward_in_a_worker_process(tmp_path):
    shards = write_shards(tmp_path / "s", 20)
    with pytest.raises(DataError, match="out of order"):
        annotate(shards, tmp_path / "d", ["tests.toys:Failing"], num_workers=2)


def test_names_that_are_no_rewards_or_no_folders(mixed, tmp_path):
    with pytest.raises(UnknownNameError):
        annotate(mixed, tmp_path / "d", ["colourfulness"], num_workers=0)
    with pytest.raises(ConfigError, match="evil"):
        annotate(mixed, tmp_path / "d", ["tests.toys:BadName"], num_workers=0)
    assert not (tmp_path / "d").exists()


def test_output_folder_of_another_source(tmp_path):
    one, two = (write_tar(tmp_path / f"{n}.tar", pair(n, i)) for i, n in enumerate("ab"))
    annotate(one, tmp_path / "d", num_workers=0)
    with pytest.raises(ProvenanceError, match="another source.*--out"):
        annotate(two, tmp_path / "d", num_workers=0)
    with pytest.raises(ProvenanceError, match="other limits"):
        annotate(one, tmp_path / "d", num_workers=0, limits=Limits(min_side=9))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="not empty and not a dataset"):
        annotate(one, tmp_path / "mine", num_workers=0)
    with pytest.raises(DataError, match="is a file"):
        annotate(one, tmp_path / "mine" / "thesis.txt", num_workers=0)


def test_a_changed_tar_of_the_same_name(tmp_path):
    path = write_tar(tmp_path / "a.tar", pair("a", 1))
    annotate(path, tmp_path / "d", num_workers=0)
    write_tar(path, pair("a", 2))
    with pytest.raises(ProvenanceError, match="has changed since"):
        annotate(path, tmp_path / "d", num_workers=0)


def test_an_image_changed_behind_the_back(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(picture(1))
    (tmp_path / "p" / "a.txt").write_text("a")
    annotate(tmp_path / "p", tmp_path / "d", num_workers=0)
    content = bytearray((tmp_path / "p" / "a.png").read_bytes())
    content[-20] ^= 1
    (tmp_path / "p" / "a.png").write_bytes(content)
    with pytest.raises(ProvenanceError, match="'a'.*has changed"):
        encode(tmp_path / "d", resolution=16, num_workers=0)


def test_shards_may_be_added_to_a_folder(tmp_path):
    shards = write_shards(tmp_path / "s", 20)
    annotate(shards, tmp_path / "d", ["classical"], num_workers=0)
    write_shards(tmp_path / "s", 30)
    report = annotate(shards, tmp_path / "d", ["classical"], num_workers=0)
    assert report.accounting.num_rows == 30
    assert [t.files_written > 0 for t in report.tasks] == [False, False, True]
    (tmp_path / "s" / "00001.tar").unlink()
    with pytest.raises(ProvenanceError, match="00001"):
        annotate(shards, tmp_path / "d", ["classical"], num_workers=0)


def test_dataset_and_source_move_together(tmp_path):
    shards = write_shards(tmp_path / "here" / "s", 10)
    annotate(shards, tmp_path / "here" / "d", num_workers=0)
    shutil.move(tmp_path / "here", tmp_path / "there")
    encode(tmp_path / "there" / "d", resolution=16, num_workers=0)
    shutil.move(tmp_path / "there" / "s", tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match="openmiro annotate NEW_PLACE"):
        encode(tmp_path / "there" / "d", resolution=8, num_workers=0)
    annotate(tmp_path / "elsewhere", tmp_path / "there" / "d", num_workers=0)
    encode(tmp_path / "there" / "d", resolution=8, num_workers=0)


def test_captions_table_becomes_part_of_the_dataset(tmp_path):
    shards = write_shards(tmp_path / "s", 4, synthetic_every=100)
    table = tmp_path / "c.csv"
    table.write_text("key,synthetic_caption\n000001,s1\n000003,s3\n")
    report = annotate(shards, tmp_path / "d", num_workers=0, captions_table=table)
    assert report.accounting.num_synthetic == 3
    with pytest.raises(ProvenanceError, match="another captions table"):
        annotate(shards, tmp_path / "d", num_workers=0)


def test_encoding_is_fitted_once_and_kept(tmp_path):
    shards = write_shards(tmp_path / "s", 20)
    annotate(shards, tmp_path / "d", num_workers=0)
    report = encode(tmp_path / "d", "patch4x12", "words", 16, num_workers=0)
    assert (report.codec, report.encoder, report.latent_shape) == ("patch4x12-16", "words32", (12, 4, 4))
    before = tree_bytes(tmp_path / "d")
    again = encode(tmp_path / "d", "patch4x12", "words", 16, num_workers=0)
    assert sum(t.files_written for t in again.tasks) == 0
    assert tree_bytes(tmp_path / "d") == before
    encode(tmp_path / "d", "pixel", "words", 16, num_workers=0)
    assert Dataset.open(tmp_path / "d").codecs() == ["patch4x12-16", "pixel-16"]


def test_damaged_codec_is_made_again(tmp_path):
    annotate(write_shards(tmp_path / "s", 10), tmp_path / "d", num_workers=0)
    encode(tmp_path / "d", "patch4x12", "words", 16, num_workers=0)
    before = tree_bytes(tmp_path / "d")
    weights = Dataset.open(tmp_path / "d").codec_folder("patch4x12-16") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    encode(tmp_path / "d", "patch4x12", "words", 16, num_workers=0)
    assert tree_bytes(tmp_path / "d") == before


def test_encode_before_annotate(tmp_path):
    with pytest.raises(MissingFileError, match="openmiro annotate"):
        encode(tmp_path / "nothing")
    annotate(write_shards(tmp_path / "s", 10), tmp_path / "d", num_workers=0)
    (tmp_path / "d" / "rows" / "00000.parquet.json").unlink()
    with pytest.raises(MissingFileError, match="openmiro annotate"):
        encode(tmp_path / "d", num_workers=0)


def test_levels_pool_both_captions_and_count_what_is_not_finite(mixed, tmp_path):
    annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=1)
    tables = fit_dataset_levels(tmp_path / "d", num_bins=4)
    table = tables.table("text_number")
    assert (table.num_values, table.num_nan) == (7, 1)
    assert (table.minimum, table.maximum) == (1, 2006)
    assert tables.table("width").num_values == 4
    tables.check_data({name: Dataset.open(tmp_path / "d").scores_fingerprint(name) for name in tables.names})
    with pytest.raises(MissingFileError, match="openmiro annotate"):
        annotate(mixed, tmp_path / "e", num_workers=0, max_bad_share=1)
        fit_dataset_levels(tmp_path / "e")


def test_records_say_what_made_a_file(mixed, tmp_path):
    annotate(mixed, tmp_path / "d", TOYS, num_workers=0, max_bad_share=1)
    dataset = Dataset.open(tmp_path / "d")
    record = read_record(dataset.scores_path("width", "image", "mixed"))
    assert record is not None
    assert record.producer["reward"]["version"] == "1"
    assert record.parents == {"rows": dataset.rows_record("mixed").sha256}
    assert record.num_rows == 9


def test_real_photos(real_shard, tmp_path):
    report = annotate(real_shard, tmp_path / "d", ["classical"], num_workers=0)
    assert report.accounting.rows == {"ok": 32}
    encoded = encode(tmp_path / "d", "patch4x12", "words", 64, num_workers=0)
    assert encoded.num_ok == 32
    assert verify(tmp_path / "d") == []
    assert not Dataset.open(tmp_path / "d").text_path("words32", CaptionKind.ORIGINAL, "x").exists()
