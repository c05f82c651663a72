import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.builders import pair, picture, write_shards, write_tar

from openmiro.core.errors import DataError, MissingFileError
from openmiro.data.images import Limits
from openmiro.data.reading import read_row
from openmiro.data.sources import open_source, safe_name
from openmiro.data.status import RowFlag, RowStatus

LIMITS = Limits()


def read(source, limits=LIMITS):
    return [read_row(raw, limits)[0] for shard in source.shards for raw in source.rows(shard.name, limits)]


def write_photos(folder, names, caption="a caption"):
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
        path.with_suffix(".txt").write_text(f"{caption} {seed}", encoding="utf-8")
    return folder


def test_tars_in_a_folder_a_pattern_and_alone(tmp_path):
    write_shards(tmp_path / "s", 25)
    folder = open_source(tmp_path / "s")
    assert [s.name for s in folder.shards] == ["00000", "00001", "00002"]
    pattern = open_source(str(tmp_path / "s" / "0000[01].tar"))
    assert [s.name for s in pattern.shards] == ["00000", "00001"]
    alone = open_source(tmp_path / "s" / "00002.tar")
    assert len(read(alone)) == 5
    assert folder.fingerprints()["00002"] == alone.fingerprints()["00002"]


def test_shard_names_are_safe_and_different(tmp_path):
    for name in ("a b$(rm).tar", "sub/00000.tar", "sub2/00000.tar", "A.tar", "a.tar"):
        write_tar(tmp_path / name, pair("k"))
    names = [s.name for s in open_source(tmp_path).shards]
    assert len({n.lower() for n in names}) == 5
    assert all(safe_name(n) == n for n in names)
    assert safe_name("../..//etc/passwd") == "etc_passwd"
    assert safe_name("...") == "shard"


def test_image_folder(tmp_path):
    write_photos(tmp_path, ["b.png", "a/c.png", "a.png"])
    (tmp_path / "d.png").write_bytes(picture(9))
    (tmp_path / "d.json").write_text(json.dumps({"caption": "d", "synthetic_caption": "long", "other": 1}))
    (tmp_path / "notes.txt").write_text("not a caption of anything")
    rows = read(open_source(tmp_path))
    assert [r.key for r in rows] == ["a", "a/c", "b", "d"]
    assert {r.status for r in rows} == {RowStatus.OK}
    assert (rows[3].caption, rows[3].synthetic) == ("d", "long")


def test_folder_is_cut_into_shards_of_fixed_rows(tmp_path):
    write_photos(tmp_path, [f"{i:03}.png" for i in range(10)])
    source = open_source(tmp_path, limits=Limits(rows_per_shard=4))
    assert [len(list(s.row_keys())) for s in source.shards] == [4, 4, 2]
    assert [r.key for r in read(source)] == [f"{i:03}" for i in range(10)]


def test_same_stem_twice_is_a_duplicate_even_across_shards(tmp_path):
    write_photos(tmp_path, ["a.png", "b.png"])
    (tmp_path / "a.webp").write_bytes(picture(5, image_format="WEBP"))
    rows = read(open_source(tmp_path, limits=Limits(rows_per_shard=1)))
    assert [(r.key, r.status.value) for r in rows] == [("a", "ok"), ("a", "duplicate_key"), ("b", "ok")]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    photos = write_photos(tmp_path / "photos", ["a.png"])
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "secret.txt").write_text("secret")
    (photos / "b.png").symlink_to("../secret.png")
    (photos / "b.txt").symlink_to("../secret.txt")
    (photos / "c.png").write_bytes(picture())
    (photos / "c.txt").symlink_to("../secret.txt")
    assert {r.key: r.status.value for r in read(open_source(photos))} == {
        "a": "ok",
        "b": "path_outside",
        "c": "missing_caption",
    }


def test_a_dataset_inside_the_folder_is_not_part_of_it(tmp_path):
    write_photos(tmp_path, ["a.png", "dataset/stats/b.png", ".hidden/c.png"])
    (tmp_path / "dataset" / "dataset.json").write_text("{}")
    assert [r.key for r in read(open_source(tmp_path))] == ["a"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_table(tmp_path, suffix):
    write_photos(tmp_path / "images", ["x.png", "y.png"])
    records = [
        {"file_name": "images/x.png", "text": 'a "quoted", caption', "synthetic_caption": "long"},
        {"file_name": "images/y.png", "text": "y", "synthetic_caption": ""},
        {"file_name": "images/gone.png", "text": "z", "synthetic_caption": ""},
        {"file_name": "", "text": "z", "synthetic_caption": ""},
        {"file_name": "images/x.png", "text": "again", "synthetic_caption": ""},
    ]
    path = write_table(tmp_path / f"table{suffix}", records)
    rows = read(open_source(path))
    assert [r.status.value for r in rows] == ["ok", "ok", "missing_image", "missing_image", "duplicate_key"]
    assert [r.key for r in rows[:2]] == ["images/x.png", "images/y.png"]
    assert rows[0].caption == 'a "quoted", caption'
    assert (rows[0].synthetic, rows[1].synthetic) == ("long", None)


def write_table(path, records):
    names = list(records[0])
    if path.suffix == ".parquet":
        pq.write_table(pa.table({n: [r[n] for r in records] for n in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(r) for r in records))
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        lines = [comma.join(names)]
        lines += [comma.join('"' + r[n].replace('"', '""') + '"' for n in names) for r in records]
        path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "sub/../../secret.png", "link/secret.png", "a\0b"])
def test_table_cannot_point_outside_its_folder(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(picture())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link").symlink_to("..")
    (folder / "good.png").write_bytes(picture())
    path = write_table(folder / "t.jsonl", [{"image": name, "caption": "x"}, {"image": "good.png", "caption": "y"}])
    assert [r.status.value for r in read(open_source(path))] == ["path_outside", "ok"]


def test_metadata_file_in_a_folder(tmp_path):
    write_photos(tmp_path, ["x.png"])
    write_table(tmp_path / "metadata.jsonl", [{"file_name": "x.png", "text": "from metadata"}])
    assert [r.caption for r in read(open_source(tmp_path))] == ["from metadata"]


def test_caption_that_is_not_utf8_troubles_only_its_row(tmp_path):
    write_photos(tmp_path, ["x.png", "y.png"])
    (tmp_path / "t.csv").write_bytes(b"image,caption\nx.png,caf\xe9\ny.png,tea\n")
    rows = read(open_source(tmp_path / "t.csv"))
    assert [(r.caption, r.flags) for r in rows] == [("caf\ufffd", (RowFlag.CAPTION_NOT_UTF8,)), ("tea", ())]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "no column of image paths"),
        ("image,b\n1,2\n", "no column of captions"),
        ("image,caption\n1,2,3\n", "cannot be read as a table"),
    ],
)
def test_bad_tables_say_what_is_missing(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "t.csv")


def test_bad_json_lines_name_the_line(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"image": "a", "caption": "b"}\n{bad\n')
    with pytest.raises(DataError, match="line 2"):
        open_source(tmp_path / "t.jsonl")


def test_captions_table_is_joined_by_key(tmp_path):
    write_shards(tmp_path / "s", 6, synthetic_every=3)
    records = [{"key": f"{i:06}", "synthetic_caption": f"table {i}"} for i in (0, 1, 99)]
    table = write_table(tmp_path / "captions.csv", records)
    source = open_source(tmp_path / "s", table)
    source.check_captions()
    rows = read(source)
    assert [r.synthetic for r in rows] == ["table 0", "table 1", None, "synthetic words for 3", None, None]
    assert rows[0].short_synthetic == "synthetic 0"


def test_captions_table_of_another_source(tmp_path):
    write_shards(tmp_path / "s", 6)
    table = write_table(tmp_path / "captions.csv", [{"key": "elsewhere", "synthetic_caption": "x"}])
    with pytest.raises(DataError, match="matches no row.*'elsewhere'.*'000000'"):
        open_source(tmp_path / "s", table).check_captions()


def test_captions_table_with_a_key_twice(tmp_path):
    write_shards(tmp_path / "s", 6)
    table = write_table(tmp_path / "captions.csv", [{"key": "000001", "synthetic_caption": c} for c in "ab"])
    with pytest.raises(DataError, match="more than once: 000001"):
        open_source(tmp_path / "s", table).check_captions()


def test_sources_that_are_not_there(tmp_path):
    for path in ("nowhere", "nowhere.tar", "nowhere/*.tar"):
        with pytest.raises(MissingFileError):
            open_source(tmp_path / path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        open_source(tmp_path / "empty")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="not a source"):
        open_source(tmp_path / "a.zip")
    write_shards(tmp_path / "s", 2)
    with pytest.raises(MissingFileError, match="captions table"):
        open_source(tmp_path / "s", tmp_path / "none.csv")


def test_fingerprints_see_changes(tmp_path):
    write_photos(tmp_path / "p", ["a.png", "b.png"])
    before = open_source(tmp_path / "p").fingerprints()
    (tmp_path / "p" / "a.txt").write_text("a longer caption")
    assert open_source(tmp_path / "p").fingerprints() != before
    write_shards(tmp_path / "s", 2)
    before = open_source(tmp_path / "s").fingerprints()
    content = bytearray((tmp_path / "s" / "00000.tar").read_bytes())
    content[600] ^= 1
    (tmp_path / "s" / "00000.tar").write_bytes(content)
    assert open_source(tmp_path / "s").fingerprints() != before
