"""A small scored lab dataset and the results of an imagined quickstart."""

import json

import numpy as np
import pytest

from openmiro.data.columns import Provenance, Scores, write_rows, write_scores
from openmiro.data.reading import read_row
from openmiro.data.sources import open_source
from openmiro.data.status import ScoreStatus
from openmiro.data.store import Dataset
from openmiro.evaluate.steering import judge_arm, measure_strip
from openmiro.lab.prompts import prompt_set
from openmiro.lab.scenes import LabSettings
from openmiro.lab.shards import sample_pair, synthesize
from openmiro.report.blocks import Verdict
from openmiro.report.quickstart_page import QuickstartResults, SameSeed, StripPictures
from openmiro.rewards.base import score_captions
from openmiro.rewards.catalog import resolve_rewards
from openmiro.rewards.levels import ScoreColumn, fit_levels

HOSTILE = '<script>alert("x")</script> & "quotes" $x_1$'


@pytest.fixture(scope="session")
def rewards():
    return resolve_rewards(["aesthetic", "sharpness", "alignment"])


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, rewards):
    """60 lab pairs in two shards with the scores of three rewards and fitted levels."""
    root = tmp_path_factory.mktemp("report")
    synthesize(root / "shards", 60, settings=LabSettings(resolution=24), pairs_per_shard=30)
    made = Dataset.create(root / "dataset", open_source(root / "shards"))
    source, columns = made.source(), {model.spec.name: [] for model in rewards}
    for shard in made.shards:
        pairs = [read_row(raw, made.limits) for raw in source.rows(shard, made.limits)]
        rows, images = [row for row, _ in pairs], [image for _, image in pairs]
        write_rows(made.rows_path(shard), rows, [], Provenance({}, {}))
        for model in rewards:
            captions = {"original": [r.caption for r in rows], "synthetic": [r.synthetic for r in rows]}
            for column, values in score_captions(model, images, captions).items():
                scores = Scores(values, (ScoreStatus.OK,) * len(rows))
                about = Provenance({"reward": model.spec.dump()}, {})
                write_scores(made.scores_path(model.spec.name, column, shard), [r.key for r in rows], scores, about)
                columns[model.spec.name].append(values)
    fit_levels(ScoreColumn(m.spec, lambda m=m: iter(columns[m.spec.name])) for m in rewards).save(made.levels_path)
    return made


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run folder as training leaves it behind."""
    folder = tmp_path_factory.mktemp("runs") / "lab-miro"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"name: lab-miro\nnote: '{HOSTILE}'\n")
    lines = [{"step": i, "images": 64 * i, "train/loss": 2 / i**0.3 + 0.5} for i in range(1, 200)]
    lines.append({"step": 199, "images": 64 * 199, "val/reward/sharpness/mean": 30.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="session")
def results(dataset, run, rewards):
    """A quickstart's results whose "models" are the lab's own renderer."""
    prompts = prompt_set(4, seed=1)

    def draw(texts, seeds, targets):
        from openmiro.lab.scenes import render

        return [render(sample_pair(s, 0, LabSettings()).scene, 24) for s in seeds]

    seeds = range(len(prompts))
    pictures = draw([p.text for p in prompts], seeds, {})
    arms = [judge_arm(n, pictures, prompts, rewards) for n in ("baseline", "balanced", "unguided", "alignment")]
    strip, drawn = measure_strip(draw, rewards[0], _levels(dataset).table("aesthetic"), ["a red square"] * 4, range(4))
    return QuickstartResults(
        subtitle="Two models, one budget.",
        facts=[("machine", "two cores"), ("pictures", "12,800")],
        verdicts=[Verdict("MIRO is sharper", True, "1.0 against 0.5"), Verdict(HOSTILE, False, HOSTILE)],
        dataset=dataset.folder,
        runs={"baseline": run, "MIRO": run},
        same_seed=SameSeed(["baseline", "MIRO"], [HOSTILE, "a blue ring"], [pictures[:2], pictures[2:4]]),
        strips=[StripPictures(strip, ["a red square", HOSTILE], list(zip(*drawn))[:2])],
        arms=arms,
        highlighted=["baseline", "balanced"],
        about_arms={"baseline": "text guidance 3"},
        guidance_search=[(1.0, arms[0]), (3.0, arms[1])],
        unguided="unguided",
        steered="alignment",
        seconds={"data": 12.0, "training": 300.0, "evaluation": 90.5},
        settings="seed: 0",
        commands="openmiro data synth shards",
    )


def _levels(dataset):
    from openmiro.rewards.levels import LevelTables

    return LevelTables.load(dataset.levels_path)


@pytest.fixture(scope="session")
def noisy_values():
    return np.random.default_rng(0).normal(size=500).astype(np.float32)
