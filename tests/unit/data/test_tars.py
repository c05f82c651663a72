import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import pair, picture, write_tar

from openmiro.core.errors import DataError, ProvenanceError
from openmiro.data.images import Limits
from openmiro.data.reading import read_row
from openmiro.data.rows import Location
from openmiro.data.status import RowStatus
from openmiro.data.tars import TarShard, check_is_tar, scan_tar

LIMITS = Limits()


def read(path):
    return [read_row(raw, LIMITS)[0] for raw in TarShard("00000", path).rows(LIMITS)]


def statuses(path):
    return {row.key: row.status.value for row in read(path)}


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_dialect(tmp_path, tar_format):
    long = "folder/" * 12 + "x" * 90
    path = write_tar(tmp_path / "a.tar", [*pair("plain", 1), *pair(long, 2), *pair("größe", 3)], tar_format)
    assert statuses(path) == {"plain": "ok", long: "ok", "größe": "ok"}


def test_scan_agrees_with_tarfile(tmp_path, real_shard):
    with tarfile.open(real_shard) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar.getmembers()]
    scan = scan_tar(real_shard)
    assert [(m.name, m.offset, m.size) for m in scan.members] == expected
    assert scan.damage == ""


def test_real_photos_are_all_ok(real_shard):
    rows = read(real_shard)
    assert len(rows) == 32
    assert {row.status for row in rows} == {RowStatus.OK}
    assert all(row.caption for row in rows)


def test_locations_lead_back_to_the_bytes(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*pair("a", 1), *pair("b", 2)])
    shard = TarShard("00000", path)
    for seed, row in enumerate(read(path), start=1):
        assert shard.read_image(row.location) == picture(seed)
    with pytest.raises(ProvenanceError, match="has changed"):
        shard.read_image(Location("", path.stat().st_size - 10, 100))


def test_members_of_a_row_need_not_be_neighbors(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.png", picture(1)), ("b.png", picture(2)), ("b.txt", "b"), ("a.txt", "a")])
    assert [(r.key, r.caption) for r in read(path)] == [("a", "a"), ("b", "b")]


def test_duplicates_are_counted_and_the_first_is_kept(tmp_path):
    members = [*pair("a", 1, "first"), *pair("b", 2), *pair("a", 3, "second")]
    rows = read(write_tar(tmp_path / "a.tar", members))
    assert [(r.key, r.status, r.caption) for r in rows] == [
        ("a", RowStatus.OK, "first"),
        ("b", RowStatus.OK, "picture number 2"),
        ("a", RowStatus.DUPLICATE_KEY, None),
    ]


def test_missing_members_are_named(tmp_path):
    members = [
        ("a.png", picture()),
        ("b.txt", "b"),
        ("c.json", "{}"),
        ("d.png", picture()),
        ("d.txt", "  \n"),
        *pair("e"),
    ]
    assert statuses(write_tar(tmp_path / "a.tar", members)) == {
        "a": "missing_caption",
        "b": "missing_image",
        "c": "missing_image",
        "d": "missing_caption",
        "e": "ok",
    }


def test_caption_in_json_serves_where_there_is_no_text(tmp_path):
    rows = read(write_tar(tmp_path / "a.tar", [("a.png", picture()), ("a.json", '{"caption": "from json"}')]))
    assert rows[0].caption == "from json"


def test_unrelated_members_are_ignored(tmp_path):
    members = [
        ("._a.png", b"x"),
        ("__meta__.json", "{}"),
        ("README", "x"),
        ("a.seg.png", b"x"),
        ("a.npy", b"x"),
        *pair("a"),
    ]
    assert statuses(write_tar(tmp_path / "a.tar", members)) == {"a": "ok"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_only_regular_members_are_read(tmp_path, kind):
    link = tarfile.TarInfo("evil.png")
    link.type, link.linkname = kind, "/etc/passwd"
    path = write_tar(tmp_path / "a.tar", [link, ("evil.txt", "a caption"), *pair("good")])
    assert statuses(path) == {"evil": "member_not_regular", "good": "ok"}


def test_caption_that_is_a_link_is_not_followed(tmp_path):
    link = tarfile.TarInfo("a.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    assert statuses(write_tar(tmp_path / "a.tar", [("a.png", picture()), link])) == {"a": "missing_caption"}


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../b", "..", "C:\\x\\evil", "\x1b[31mred"])
def test_names_are_labels_and_never_paths(tmp_path, name):
    before = set(tmp_path.parent.rglob("*evil*"))
    rows = read(write_tar(tmp_path / "a.tar", [*pair(name), *pair("good")]))
    assert "good" in {row.key for row in rows}
    assert all(character.isprintable() for row in rows for character in row.key)
    assert set(tmp_path.parent.rglob("*evil*")) == before


def test_member_size_cap(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("big.png", b"\0" * 5000), ("big.txt", "x"), *pair("a")])
    rows = list(TarShard("00000", path).rows(Limits(max_image_bytes=4000)))
    assert rows[0].status == RowStatus.IMAGE_TOO_LARGE
    assert rows[0].image is None


def test_a_size_that_lies_is_a_truncated_shard(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*pair("a"), *pair("b")])
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        offset = tar.getmember("b.png").offset
    header = tarfile.TarInfo("b.png")
    header.size = 8**11 - 1  # 8 GiB
    content[offset : offset + 512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(content)
    rows = read(path)
    assert [(r.key, r.status) for r in rows] == [("a", RowStatus.OK), ("b", RowStatus.SHARD_TRUNCATED)]
    assert TarShard("00000", path).notes()


def test_huge_numbers_in_headers(tmp_path):
    path = write_tar(tmp_path / "a.tar", pair("a"))
    content = bytearray(path.read_bytes())
    for field in (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"9" * 12, b"-0000000001\0"):
        content[124:136] = field
        content[148:156] = b" " * 8
        content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
        path.write_bytes(content)
        assert all(row.status != RowStatus.OK for row in read(path))


def test_truncation_salvages_whole_rows(tmp_path):
    members = [member for i in range(6) for member in pair(f"{i}", i, synthetic_caption="s")]
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        ends = [m.offset_data + m.size for m in tar.getmembers()]
    for cut in range(600, ends[-1] + 1, 511):
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:cut])
        rows = read(path)
        complete = sum(end <= cut for end in ends[2::3])
        assert sum(r.status == RowStatus.OK for r in rows) == complete
        assert {r.status for r in rows[complete:]} <= {RowStatus.SHARD_TRUNCATED}
        assert TarShard("00000", path).notes()[0].startswith("shard_truncated")


def test_row_without_its_json_at_the_cut_is_not_taken_for_whole(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*pair("a", 1, synthetic_caption="s"), *pair("b", 2, synthetic_caption="s")])
    with tarfile.open(path) as tar:
        end = tar.getmember("b.json").offset
    path.write_bytes(path.read_bytes()[:end])
    assert statuses(path) == {"a": "ok", "b": "shard_truncated"}


def test_damaged_header_in_the_middle(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*pair("a"), *pair("b"), *pair("c")])
    with tarfile.open(path) as tar:
        offset = tar.getmember("b.txt").offset
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 0xFF
    path.write_bytes(content)
    assert statuses(path) == {"a": "ok", "b": "shard_truncated"}
    assert "not a tar header" in TarShard("0", path).notes()[0]


def test_concatenated_tars(tmp_path):
    first, second = (write_tar(tmp_path / f"{n}.tar", pair(n)).read_bytes() for n in "ab")
    (tmp_path / "both.tar").write_bytes(first + second)
    assert statuses(tmp_path / "both.tar") == {"a": "ok", "b": "ok"}


def test_giant_pax_header_is_not_read_whole(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"comment": "x" * 3_000_000}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info.size = len(picture())
        tar.addfile(info, io.BytesIO(picture()))
    path = tmp_path / "a.tar"
    path.write_bytes(content.getvalue())
    assert statuses(path) == {"a": "missing_caption"}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_give_an_account_and_no_exception(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("t") / "a.tar"
    path.write_bytes(content)
    assert all(row.status != RowStatus.OK for row in read(path))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=20))
def test_any_damage_gives_an_account_and_no_exception(tmp_path_factory, changes):
    path = write_tar(tmp_path_factory.mktemp("t") / "a.tar", [*pair("a", 1), *pair("b", 2)])
    content = bytearray(path.read_bytes())
    for at, value in changes:
        content[at] = value
    path.write_bytes(content)
    read(path)


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"(\xb5/\xfd"])
def test_compressed_tars_are_refused_with_the_way_out(tmp_path, magic):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(magic + b"\0" * 100)
    with pytest.raises(DataError, match="compressed"):
        check_is_tar(path)
