import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from openmiro.core.artifact import check, read_json
from openmiro.core.errors import ConfigError, ProvenanceError
from openmiro.lab import shards
from openmiro.lab.scenes import LabSettings, render_array
from openmiro.lab.shards import MANIFEST_NAME, sample_pair, synthesize


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_shards_are_ordinary_webdataset_tars(tmp_path):
    paths = synthesize(tmp_path, 25, seed=4, pairs_per_shard=10)
    assert [p.name for p in paths] == ["00000.tar", "00001.tar", "00002.tar"]
    keys = []
    for path in paths:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert all(m.isreg() for m in members)
            names = [m.name.split(".") for m in members]
            assert [n[1] for n in names] == ["png", "txt", "json"] * (len(names) // 3)
            keys += [n[0] for n in names[::3]]
        check(path)
    assert keys == [f"{i:09d}" for i in range(25)]
    with tarfile.open(paths[1]) as tar:
        record = json.loads(tar.extractfile("000000012.json").read())
        text = tar.extractfile("000000012.txt").read().decode()
        picture = np.asarray(Image.open(io.BytesIO(tar.extractfile("000000012.png").read())))
    pair = sample_pair(12, 4, LabSettings())
    assert text == pair.captions.original
    assert record["synthetic_caption"] == pair.captions.synthetic
    assert record["short_synthetic_caption"] == pair.captions.short_synthetic
    assert record["scene"]["objects"][0]["kind"] == pair.scene.objects[0].kind
    np.testing.assert_array_equal(picture, render_array(pair.scene))


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    synthesize(tmp_path / "one", 12, seed=1, pairs_per_shard=4, num_workers=1)
    synthesize(tmp_path / "two", 12, seed=1, pairs_per_shard=4, num_workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    synthesize(tmp_path / "whole", 12, pairs_per_shard=4)
    real, written = shards._write_shard, []

    def dies_at_the_second(task):
        if len(written) == 1:
            (tmp_path / "cut" / ".tmp-00001.tar-1-abc").write_bytes(b"half")
            (tmp_path / "cut" / "00001.tar").write_bytes(b"without a record")
            raise KeyboardInterrupt
        written.append(task.path.name)
        return real(task)

    monkeypatch.setattr(shards, "_write_shard", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "cut", 12, pairs_per_shard=4)
    rewritten = []
    monkeypatch.setattr(shards, "_write_shard", lambda task: rewritten.append(task.path.name) or real(task))
    synthesize(tmp_path / "cut", 12, pairs_per_shard=4)
    assert rewritten == ["00001.tar", "00002.tar"]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_another_datasets_folder_is_left_alone(tmp_path):
    synthesize(tmp_path, 4, seed=0)
    before = contents(tmp_path)
    with pytest.raises(ProvenanceError, match="other arguments"):
        synthesize(tmp_path, 4, seed=1)
    assert contents(tmp_path) == before
    assert read_json(tmp_path / MANIFEST_NAME)["num_pairs"] == 4


def test_numbers_must_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="num_pairs"):
        synthesize(tmp_path, 0)


def test_jpeg_and_other_resolutions(tmp_path):
    (path,) = synthesize(tmp_path, 2, settings=LabSettings(image_format="jpg", resolution=32))
    with tarfile.open(path) as tar:
        image = Image.open(io.BytesIO(tar.extractfile("000000000.jpg").read()))
        assert (image.format, image.size) == ("JPEG", (32, 32))


def test_pairs_depend_on_index_and_seed_only():
    assert sample_pair(5, 0, LabSettings()) == sample_pair(5, 0, LabSettings())
    scenes = {sample_pair(i, s, LabSettings()).scene for i in range(20) for s in range(2)}
    assert len(scenes) == 40
