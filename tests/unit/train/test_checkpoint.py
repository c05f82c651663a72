import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from openmiro.core.artifact import sha256_file
from openmiro.core.errors import CheckpointError, DamagedFileError
from openmiro.train.checkpoint import (
    Checkpoint,
    CheckpointWarning,
    Progress,
    check_checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_latest,
    save_checkpoint,
)


def checkpoint(step, value=0.0):
    tensors = {"weight": torch.full((2, 3), value + step), "shared": torch.zeros(4).expand(2, 4)}
    progress = Progress(step=step, images=step * 4, recipe="r", data="d", precision="fp32", world_size=1)
    optimizer = {"state": {0: {"step": torch.tensor(float(step)), "m": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    return Checkpoint(progress, tensors, {"weight": torch.ones(2, 3)}, optimizer)


def extras(folder):
    (folder / "codec").mkdir()
    (folder / "codec" / "codec.json").write_text("{}")


def save(run, *steps, keep=3):
    for step in steps:
        save_checkpoint(run, checkpoint(step), extras, keep)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_saved_is_loaded(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(5), extras, keep=1)
    loaded = load_checkpoint(folder)
    assert folder.name == "step-000005"
    assert loaded.progress == checkpoint(5).progress
    assert torch.equal(loaded.denoiser["weight"], torch.full((2, 3), 5.0))
    assert torch.equal(loaded.denoiser["shared"], torch.zeros(2, 4))
    assert loaded.optimizer["state"][0]["step"] == 5.0
    assert (tmp_path / "latest").read_text() == "checkpoints/step-000005\n"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    weights = {f"{n}.safetensors" for n in ("denoiser", "ema", "optimizer")}
    assert names == weights | {"state.json", "codec/codec.json", "COMPLETE"}


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        save(tmp_path / name, 5)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_retention_keeps_the_newest(tmp_path):
    save(tmp_path, 1, 2, 10, 9, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-000009", "step-000010"]


def test_order_is_by_number_beyond_six_digits(tmp_path):
    save(tmp_path, 999_999, 1_000_000)
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.progress.step == 1_000_000


def test_a_new_run_has_none(tmp_path):
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize(
    "name", ["denoiser.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "codec/codec.json"]
)
def test_a_damaged_newest_falls_back_loudly(tmp_path, name):
    save(tmp_path, 1, 2)
    flip(tmp_path / "checkpoints" / "step-000002" / name)
    with pytest.warns(CheckpointWarning, match="step-000002"):
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.progress.step == 1


@pytest.mark.parametrize("damage", ["missing", "unfinished", "empty list", "not json"])
def test_other_damage(tmp_path, damage):
    save(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "step-000002"
    if damage == "missing":
        (folder / "ema.safetensors").unlink()
    elif damage == "unfinished":
        (folder / "COMPLETE").unlink()
    else:
        (folder / "COMPLETE").write_text("{}" if damage == "empty list" else "{")
    with pytest.raises(DamagedFileError, match="step-000002"):
        check_checkpoint(folder)
    with pytest.warns(CheckpointWarning):
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.progress.step == 1


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    save(tmp_path, 1, 2)
    for folder in list_checkpoints(tmp_path):
        (folder / "COMPLETE").unlink()
    with pytest.warns(CheckpointWarning), pytest.raises(CheckpointError, match="every checkpoint"):
        load_latest(tmp_path)


def test_a_damaged_folder_is_replaced_and_an_intact_one_left_alone(tmp_path):
    save(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints" / "step-000002"
    flip(folder / "denoiser.safetensors")
    save(tmp_path, 2)
    check_checkpoint(folder)
    stamp = (folder / "COMPLETE").stat().st_mtime_ns
    save(tmp_path, 2)
    assert (folder / "COMPLETE").stat().st_mtime_ns == stamp


def test_what_a_killed_writer_left_is_removed_and_not_read(tmp_path):
    save(tmp_path, 1)
    leftover = shutil.copytree(tmp_path / "checkpoints" / "step-000001", tmp_path / "checkpoints" / ".tmp-step-000002")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.progress.step == 1
    assert not leftover.exists()


def test_an_error_while_writing_leaves_the_old_ones(tmp_path):
    save(tmp_path, 1)

    def fail(folder):
        raise ValueError("codec")

    with pytest.raises(ValueError, match="codec"):
        save_checkpoint(tmp_path, checkpoint(2), fail, keep=1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert (tmp_path / "latest").read_text() == "checkpoints/step-000001\n"


def test_names_in_complete_never_lead_out_of_the_folder(tmp_path):
    save(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "step-000001"
    digests = json.loads((folder / "COMPLETE").read_text())
    (tmp_path / "secret").write_text("x")
    outside = {"../../secret": sha256_file(tmp_path / "secret")}
    (folder / "COMPLETE").write_text(json.dumps({**digests, **outside}))
    with pytest.raises(DamagedFileError, match="missing"):
        check_checkpoint(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits need a Unix system")
@pytest.mark.parametrize("limit", [100, 400])
def test_a_full_disk_is_named_and_leaves_the_old_ones(tmp_path, limit):
    save(tmp_path, 1)
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_checkpoint as t
from pathlib import Path
from openmiro.core.artifact import sha256_file
from openmiro.core.errors import DiskFullError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    t.save(Path({str(tmp_path)!r}), 2, keep=1)
except DiskFullError as error:
    assert "step-000002" in str(error)
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    check_checkpoint(tmp_path / "checkpoints" / "step-000001")
