import errno
import json
import os

import pytest

from openmiro.core import artifact
from openmiro.core.errors import DamagedFileError, DiskFullError, MissingFileError

PRODUCER = {"name": "test", "version": "1"}


def make(folder, content=b"content", **parents):
    path = folder / "column" / "00000.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("temporary")
    temporary.write_bytes(content)
    artifact.commit(temporary, path, kind="test", producer=PRODUCER, parents=parents, counts={"ok": 2, "bad": 1})
    return path


def test_commit_records_size_digest_and_counts(tmp_path):
    record = artifact.check(make(tmp_path))
    assert (record.num_bytes, record.num_rows, record.kind) == (7, 3, "test")


def test_committing_the_same_content_twice_gives_the_same_bytes(tmp_path):
    path = make(tmp_path)
    before = artifact.record_path(path).read_bytes()
    make(tmp_path)
    assert artifact.record_path(path).read_bytes() == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "record"])
def test_damage_is_named(tmp_path, damage):
    path = make(tmp_path)
    if damage == "flip":
        path.write_bytes(b"cOntent")
    elif damage == "truncate":
        path.write_bytes(b"con")
    elif damage == "delete":
        path.unlink()
    else:
        artifact.record_path(path).write_text("{")
    with pytest.raises((DamagedFileError, MissingFileError), match="00000.bin"):
        artifact.check(path)


def test_is_committed_asks_for_the_same_producer_and_parents(tmp_path):
    path = make(tmp_path, rows="abc")
    assert artifact.is_committed(path, producer=PRODUCER, parents={"rows": "abc"})
    assert not artifact.is_committed(path, producer=PRODUCER, parents={"rows": "xyz"})
    assert not artifact.is_committed(path, producer={**PRODUCER, "version": "2"}, parents={"rows": "abc"})
    path.unlink()
    assert not artifact.is_committed(path, producer=PRODUCER, parents={"rows": "abc"})


def test_without_record_the_file_does_not_count(tmp_path):
    path = make(tmp_path)
    artifact.record_path(path).unlink()
    assert not artifact.is_committed(path, producer=PRODUCER)
    with pytest.raises(MissingFileError, match="not finished"):
        artifact.check(path)


def test_atomic_path_leaves_nothing_behind_on_failure(tmp_path):
    path = tmp_path / "file.txt"
    artifact.write_text(path, "old")
    with pytest.raises(RuntimeError), artifact.atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_full_disk_is_a_clear_error(tmp_path):
    with pytest.raises(DiskFullError, match=r"no space left.*file\.txt"), artifact.atomic_path(tmp_path / "file.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_json_is_canonical_and_refuses_nan(tmp_path):
    path = tmp_path / "x.json"
    artifact.write_json(path, {"b": 1, "a": "é"})
    assert json.loads(path.read_bytes()) == artifact.read_json(path) == {"a": "é", "b": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        artifact.write_json(path, {"a": float("nan")})
    assert artifact.read_json(path) == {"a": "é", "b": 1}


def test_fingerprint_over_files_sees_every_byte_and_name(tmp_path):
    first, second = (make(tmp_path / name, name.encode()) for name in "xy")
    assert artifact.record_fingerprint({"a": first}) != artifact.record_fingerprint({"a": second})
    assert artifact.record_fingerprint({"a": first}) != artifact.record_fingerprint({"b": first})
    with pytest.raises(MissingFileError):
        artifact.record_fingerprint({"a": tmp_path / "missing"})


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".tmp-x-1").write_text("half")
    (tmp_path / "keep").write_text("whole")
    assert artifact.remove_leftovers(tmp_path) == 1
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["keep"]
