"""The quickstart in miniature: everything runs, is remembered, and is told as it was measured."""

import json
import shutil

import pytest
from tests.unit.report.test_page import assert_self_contained

from openmiro.core.errors import ConfigError, OpenMiroError
from openmiro.quickstart import EvaluationSettings, QuickstartSettings, run_quickstart

SMALL = QuickstartSettings(
    num_pairs=120,
    pairs_per_shard=60,
    images=192,
    overrides=("batch_size=32", "model.width=32", "model.depth=1", "model.heads=2"),
    evaluation=EvaluationSettings(
        prompts_per_tag=3,
        validation_prompts_per_tag=2,
        guidance_scales=(2.0, 4.0),
        strip_prompts=4,
        shown_prompts=2,
        num_steps=3,
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quickstart") / "out"


@pytest.fixture(scope="module")
def result(folder):
    return run_quickstart(folder, minutes=1, threads=2, settings=SMALL)


def written(folder):
    """Content and, where it is costly, time of every file, but the clock's and the page that shows it."""
    told, cheap = {"timings.json", "summary.json", "report.html"}, {"report.json", "levels.json"}
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in told and not p.name.startswith(".lock")]
    return {p.relative_to(folder): (p.read_bytes(), None if p.name in cheap else p.stat().st_mtime_ns) for p in files}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_report_is_complete(result):
    html = result.report.read_text(encoding="utf-8")
    page = assert_self_contained(html)
    text = " ".join("".join(page.text).split())
    for verdict in result.verdicts:
        assert verdict.claim in text
        assert verdict.evidence in text
    assert "MIRO unguided" in text
    assert html.count("data:image/png;base64,") > 7 * 5 * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_summary_says_what_was_measured(result):
    summary = json.loads(result.summary.read_text())
    assert [v["answer"] for v in summary["verdicts"]] == [v.answer for v in result.verdicts]
    assert summary["plan"]["images"] == 192
    assert set(summary["strips"]) == {
        "aesthetic",
        "sharpness",
        "alignment",
        "similarity",
        "preference_a",
        "preference_b",
        "shadow",
    }
    best = max(summary["guidance_search"], key=lambda s: summary["guidance_search"][s][0])
    assert f"baseline text guidance {best}" in summary["arms"]
    assert all(arm["geneval"]["overall"][0] is not None for arm in summary["arms"].values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_second_call_does_nothing_again(result, folder):
    before = written(folder)
    again = run_quickstart(folder, minutes=1, threads=2, settings=SMALL)
    after = written(folder)
    assert set(before) == set(after)
    assert [p for p in before if before[p] != after[p]] == []
    assert again.verdicts == result.verdicts


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lost_results_are_measured_again_and_are_the_same(result, folder):
    summary = json.loads(result.summary.read_text())
    for path in sorted((folder / "evaluation").iterdir())[:6]:
        path.unlink()
    run_quickstart(folder, minutes=1, threads=1, settings=SMALL)
    again = json.loads(result.summary.read_text())
    assert again["arms"] == summary["arms"]
    assert again["strips"] == summary["strips"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_other_seed_needs_another_folder(result, folder):
    with pytest.raises(OpenMiroError, match="another output folder"):
        run_quickstart(folder, minutes=1, threads=2, seed=5, settings=SMALL)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_failed_training_names_its_log(result, folder, tmp_path):
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shutil.copytree(folder / "dataset", tmp_path / "dataset")
    settings = SMALL.model_copy(
        update={"overrides": (*SMALL.overrides, "optimizer.learning_rate=1e30", "clip_norm=null")}
    )
    with pytest.raises(OpenMiroError, match=r"training of .* failed .*\.log"):
        run_quickstart(tmp_path, minutes=1, threads=2, settings=settings)


@pytest.mark.parametrize("arguments", [{"minutes": 0}, {"threads": 0}])
def test_impossible_arguments(arguments, tmp_path):
    with pytest.raises(ConfigError, match="must be positive"):
        run_quickstart(tmp_path, **arguments)
