"""Every mistake a user can make is a message that says what is wrong and what to type; none is a traceback."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.e2e.commands import TINY, invoke, succeed


@pytest.fixture
def dataset(lab_dataset, tmp_path):
    return shutil.copytree(lab_dataset, tmp_path / "dataset", symlinks=True)


def expect(outcome, *words, code=2):
    assert outcome.code == code, f"exit code {outcome.code}\n{outcome.out}\n{outcome.err}"
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, f"'{word}' is missing in: {outcome.err}"


def test_missing_source(tmp_path):
    expect(invoke("annotate", tmp_path / "nowhere.tar", "--out", tmp_path / "d"), "nowhere.tar", "does not exist")


@pytest.mark.parametrize(
    "command",
    [("encode",), ("levels", "fit"), ("levels", "show"), ("data", "verify"), ("data", "stats"), ("report",)],
)
def test_missing_dataset(tmp_path, command):
    expect(invoke(*command, tmp_path / "nowhere"), "nowhere")


def test_missing_checkpoint(tmp_path):
    expect(invoke("sample", tmp_path / "nowhere", "a red square"), "nowhere")


def test_unknown_recipe_names_the_nearest(tmp_path):
    expect(invoke("train", "lab-mirro", "--data", tmp_path), "Did you mean 'lab-miro'?")


def test_wrong_recipe_key_names_the_nearest(dataset, tmp_path):
    outcome = invoke("train", "lab-miro", "--data", dataset, "--out", tmp_path / "run", "optimizer.learning_rat=1")
    expect(outcome, "optimizer.learning_rat", "Did you mean 'optimizer.learning_rate'?")
    assert not (tmp_path / "run").exists()


def test_unknown_reward_lists_them(dataset, tmp_path):
    outcome = invoke("annotate", tmp_path, "--out", tmp_path / "d", "--rewards", "asthetic")
    expect(outcome, "unknown reward 'asthetic'", "Did you mean 'aesthetic'?", "colorfulness", "shadow")


def test_unknown_reward_when_sampling_lists_the_checkpoints_own(lab_run, tmp_path):
    outcome = invoke("sample", lab_run, "a red square", "--target", "beauty=1", "--out", tmp_path)
    expect(outcome, "unknown reward 'beauty'", "aesthetic", "sharpness")


@pytest.mark.parametrize(("value", "said"), [("1.5", "[0, 1]"), ("-0.1", "[0, 1]"), ("nan", "nan"), ("inf", "inf")])
def test_target_outside_its_range(lab_run, tmp_path, value, said):
    outcome = invoke("sample", lab_run, "a red square", "--target", f"aesthetic={value}", "--out", tmp_path)
    expect(outcome, "aesthetic", said)


@pytest.mark.parametrize("pair", ["aesthetic", "aesthetic=high", "=1"])
def test_target_that_is_not_a_pair(lab_run, tmp_path, pair):
    expect(invoke("sample", lab_run, "a red square", "--target", pair, "--out", tmp_path), "--target")


@pytest.mark.parametrize("column", ["scores/sharpness", "latents", "text"])
def test_damaged_column_stops_training_and_is_named(dataset, tmp_path, column):
    file = sorted(p for p in (dataset / column).rglob("*") if p.suffix in (".parquet", ".arrow"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    expect(invoke("train", "lab-miro", "--data", dataset, "--out", tmp_path / "run", *TINY), file.name, "damaged")
    expect(invoke("data", "verify", dataset), file.name, "damaged")


def test_levels_fitted_on_other_data(dataset, tmp_path):
    succeed("data", "synth", tmp_path / "shards", "--pairs", 96, "--seed", 7, "--workers", 0)
    succeed("annotate", tmp_path / "shards", "--out", tmp_path / "other", "--rewards", "lab", "--workers", 0)
    succeed("levels", "fit", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "levels.json", dataset / "levels.json")
    expect(
        invoke("train", "lab-miro", "--data", dataset, "--out", tmp_path / "run", *TINY),
        "other",
        "openmiro levels fit",
    )


def test_training_before_its_stages_names_the_command(dataset, tmp_path):
    shutil.rmtree(dataset / "latents")
    expect(invoke("train", "lab-miro", "--data", dataset, "--out", tmp_path / "run", *TINY), "openmiro encode")
    (dataset / "levels.json").unlink()
    expect(invoke("train", "lab-miro", "--data", dataset, "--out", tmp_path / "run", *TINY), "openmiro levels fit")


def test_source_without_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    expect(invoke("annotate", tmp_path / "empty", "--out", tmp_path / "d", "--rewards", "classical"), "empty")


def test_output_folder_of_another_dataset(dataset, tmp_path):
    succeed("data", "synth", tmp_path / "shards", "--pairs", 8, "--seed", 3, "--workers", 0)
    outcome = invoke("annotate", tmp_path / "shards", "--out", dataset, "--rewards", "lab", "--workers", 0)
    expect(outcome, str(dataset), "other")


def test_run_folder_of_another_recipe(lab_run, lab_dataset, tmp_path):
    run = shutil.copytree(lab_run, tmp_path / "run")
    expect(invoke("train", "lab-miro", "--data", lab_dataset, "--out", run, *TINY, "seed=5"), "seed")


def test_no_space_left_keeps_what_was_committed(dataset, tmp_path):
    resource = pytest.importorskip("resource", reason="file size limits need a Unix system")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    shards = tmp_path / "shards"
    succeed("data", "synth", shards, "--pairs", 96, "--pairs-per-shard", 48, "--workers", 0)
    command = [sys.executable, "-m", "openmiro.cli.main", "annotate", shards, "--out", tmp_path / "d"]
    command = [*map(str, command), "--rewards", "classical", "--workers", "0"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    stopped = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, env=environment)
    assert stopped.returncode == 2, stopped.stderr
    assert "no space left" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not list(tmp_path.rglob(".tmp-*"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    succeed("data", "verify", tmp_path / "d")
