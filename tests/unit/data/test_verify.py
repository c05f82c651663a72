import json
import shutil

import pytest
from tests.builders import flip_byte

from openmiro.core.artifact import record_path
from openmiro.core.errors import DamagedFileError, MissingFileError
from openmiro.data.verify import verify


def data_files(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".parquet", ".arrow"))


def test_a_whole_dataset_has_no_findings(made):
    assert verify(made) == []


@pytest.mark.parametrize(
    "column", ["rows", "scores/width", "scores/text_number/original", "latents", "text/words32/synthetic"]
)
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "unfinished", "record"])
def test_every_damage_is_named(folder, column, harm):
    path = data_files(folder / column)[0]
    if harm == "flip":
        flip_byte(path, 0.3)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "delete":
        path.unlink()
    elif harm == "unfinished":
        record_path(path).unlink()
    else:
        record_path(path).write_text("{")
    assert [f.path for f in verify(folder)] == [path]
    assert str(path) in str(verify(folder)[0])


def test_a_shard_that_was_not_scored_is_named(folder):
    path = folder / "scores" / "width" / "image" / "00002.parquet"
    path.unlink()
    record_path(path).unlink()
    assert [f.path for f in verify(folder)] == [path]
    assert "not finished" in str(verify(folder)[0])


@pytest.mark.parametrize(
    "name",
    [
        "latents/patch4x12-8/codec/weights.safetensors",
        "latents/patch4x12-8/codec/codec.json",
        "text/words32/encoder/encoder.json",
    ],
)
def test_damaged_models_are_named(folder, name):
    flip_byte(folder / name, 0.9)
    assert [f.path for f in verify(folder)] == [folder / name]
    (folder / name).unlink()
    assert "is gone" in str(verify(folder)[0])


def test_levels_and_report(folder):
    (folder / "levels.json").write_text("[1,")
    assert "levels fit" in str(verify(folder)[0])
    (folder / "levels.json").unlink()
    report = json.loads((folder / "report.json").read_text())
    report["num_rows"] += 1
    (folder / "report.json").write_text(json.dumps(report))
    assert "does not account" in str(verify(folder)[0])
    (folder / "report.json").unlink()
    assert "is missing" in str(verify(folder)[0])


def test_files_of_no_shard(folder):
    shutil.copy(folder / "rows" / "00000.parquet", folder / "rows" / "99999.parquet")
    assert "belongs to no shard" in str(verify(folder)[0])


def test_columns_of_other_rows(folder):
    path = folder / "scores" / "width" / "image" / "00000.parquet"
    for name in (path, record_path(path)):
        shutil.copy(name.with_name(name.name.replace("00000", "00001")), name)
    assert "other rows" in str(verify(folder)[0])


def test_what_is_no_dataset(tmp_path):
    with pytest.raises(MissingFileError):
        verify(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="not a dataset"):
        verify(tmp_path)
    for content in ("{", "[]", '{"shards": 3}', '{"source": 1}'):
        (tmp_path / "dataset.json").write_text(content)
        with pytest.raises(DamagedFileError):
            verify(tmp_path)
