"""The report on a quickstart: two models of one budget, what steering does, and what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from openmiro.data.store import Dataset
from openmiro.evaluate.intervals import Estimate
from openmiro.evaluate.steering import Arm, Strip
from openmiro.report import style
from openmiro.report.blocks import (
    Block,
    Chart,
    Charts,
    Code,
    Matrix,
    Page,
    Section,
    Table,
    Text,
    Tile,
    Verdict,
    Verdicts,
)
from openmiro.report.dataset_page import dataset_sections, read_content
from openmiro.report.figures import IntervalSeries, interval_chart, loss_chart, rows_chart, strip_chart, time_chart
from openmiro.report.page import write_page
from openmiro.report.pictures import data_uri
from openmiro.report.run_page import loss_curve


@dataclass(frozen=True)
class StripPictures:
    """A strip and the pictures of some of its prompts.

    Attributes:
        strip: the measurement.
        prompts: of the shown rows.
        images: [len(prompts)][len(strip.asked)].
    """

    strip: Strip
    prompts: Sequence[str]
    images: Sequence[Sequence[Image]]


@dataclass(frozen=True)
class SameSeed:
    """Pictures of the same prompts and seeds, one column per arm.

    Attributes:
        columns: names of the arms.
        prompts: of the rows.
        images: [len(prompts)][len(columns)].
    """

    columns: Sequence[str]
    prompts: Sequence[str]
    images: Sequence[Sequence[Image]]


@dataclass(frozen=True)
class QuickstartResults:
    """All that a quickstart found.

    Attributes:
        subtitle: what ran, in one line.
        facts: label and value pairs for the header.
        verdicts: what was to be shown, and whether it was.
        dataset: its folder.
        runs: run folder by model name, the baseline first.
        same_seed: pictures side by side.
        strips: one per reward.
        arms: judged on the same prompts and seeds; the baseline's first.
        highlighted: names of the arms that the verdicts compare.
        about_arms: how each arm was sampled, by name.
        guidance_search: how the baseline's guidance was chosen: scale and arm on the validation prompts.
        unguided, steered: names of the arms of the alignment comparison.
        seconds: by stage.
        settings: as YAML.
        commands: to do the same step by step.
    """

    subtitle: str
    facts: Sequence[tuple[str, str]]
    verdicts: Sequence[Verdict]
    dataset: Path
    runs: Mapping[str, Path]
    same_seed: SameSeed
    strips: Sequence[StripPictures]
    arms: Sequence[Arm]
    highlighted: Sequence[str]
    about_arms: Mapping[str, str]
    guidance_search: Sequence[tuple[float, Arm]]
    unguided: str
    steered: str
    seconds: Mapping[str, float]
    settings: str
    commands: str

    def arm(self, name: str) -> Arm:
        """An arm by name."""
        return next(arm for arm in self.arms if arm.name == name)


def write_quickstart_report(results: QuickstartResults, out: Path) -> Path:
    """Writes the page and returns its path.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    dataset = dataset_sections(read_content(Dataset.open(results.dataset)))
    page = Page(
        title="Quickstart: a baseline and MIRO on the lab",
        subtitle=results.subtitle,
        facts=results.facts,
        blocks=[Verdicts(results.verdicts)],
        sections=[
            _same_seed(results.same_seed),
            _strips(results.strips),
            _comparison(results),
            _alignment(results),
            _losses(results),
            *dataset,
            _time(results),
            _settings(results),
        ],
    )
    return write_page(page, out)


def _same_seed(shown: SameSeed) -> Section:
    rows = [
        (prompt, [Tile(data_uri(image), f"{column}: {prompt}") for column, image in zip(shown.columns, images)])
        for prompt, images in zip(shown.prompts, shown.images)
    ]
    lead = "Each row is one prompt and one seed; only the model or its targets change. The prompts are held out."
    return Section("same-seed", "Same prompts, same seeds", [Matrix(shown.columns, rows)], lead)


def _strips(strips: Sequence[StripPictures]) -> Section:
    lead = (
        "One reward is asked for at five levels (away from the farther end of its scale), every other reward is left"
        " unknown; prompts and seeds stay the same along a row. The dashed line is the raw score that stands for the"
        " level asked for, the band is the 95 % interval of the mean."
    )
    rows = [
        [
            s.strip.reward,
            str(s.strip.num_pictures),
            f"{s.strip.rank_correlation:.2f}",
            f"{s.strip.pooled_rank_correlation:.2f}",
            f"{s.strip.mean_rank_correlation:.2f}",
            *(f"{m.value:.2f}" for m in s.strip.level_means),
        ]
        for s in strips
    ]
    asked = strips[0].strip.asked if strips else ()
    headers = ["reward", "pictures", "along strips", "pooled", "of means", *(f"at {a:g}" for a in asked)]
    table = Table(
        headers,
        rows,
        "Obtained against asked: Spearman's correlation, and the mean level obtained at each level asked for",
    )
    return Section("strips", "One reward at a time", [*(_strip(s) for s in strips), table], lead)


def _strip(shown: StripPictures) -> Block:
    strip = shown.strip
    caption = (
        f"Rank correlation {strip.rank_correlation:.2f} along a strip (mean over {len(strip.obtained[0])} prompts),"
        f" {strip.mean_rank_correlation:.2f} of the means."
    )
    chart = strip_chart(strip.reward, strip.unit, strip.asked, strip.wanted, strip.raw_means, caption)
    columns = [f"{a:g}" for a in strip.asked]
    rows = [
        (prompt, [Tile(data_uri(im), f"{strip.reward} {c}: {prompt}") for c, im in zip(columns, images)])
        for prompt, images in zip(shown.prompts, shown.images)
    ]
    return Matrix(columns, rows, f"Target of {strip.reward}", chart)


def _comparison(results: QuickstartResults) -> Section:
    chosen = [results.arm(name) for name in results.highlighted]
    tags = chosen[0].tag_names
    series = [
        IntervalSeries(arm.name, [arm.overall, *(arm.tag(t) for t in tags)], color)
        for arm, color in zip(chosen, style.SERIES[1::-1] + style.SERIES[2:])
    ]
    names = ["overall", *(t.replace("_", " ") for t in tags)]
    by_tag = interval_chart(
        "GenEval-lab by tag", names, series, "geneval", "share of pictures that show what was asked"
    )
    rewards = [s.strip.reward for s in results.strips if s.strip.reward in results.arms[0].scores]
    lead = (
        f"Every arm draws the same {len(results.arms[0].tags)} held-out prompts with the same seeds. GenEval-lab is"
        " judged by an exact verifier that no model was conditioned on. Intervals are 95 %: Wilson's for shares, the"
        " bootstrap's for means."
    )
    blocks: list[Block] = [
        Charts([by_tag]),
        _tag_table(results.arms, tags, frozenset(results.highlighted)),
        Charts([_reward_chart(results, reward) for reward in rewards]),
        _reward_table(results.arms, rewards, frozenset(results.highlighted)),
        Table(["arm", "how it was sampled"], [[a.name, results.about_arms.get(a.name, "")] for a in results.arms]),
        _guidance_table(results.guidance_search),
    ]
    return Section("comparison", "Baseline and MIRO on one budget", blocks, lead)


def _reward_chart(results: QuickstartResults, reward: str) -> Chart:
    baseline = results.arms[0].name
    colors = [style.BASELINE if arm.name == baseline else style.MIRO for arm in results.arms]
    unit = next((s.strip.unit for s in results.strips if s.strip.reward == reward), "raw score")
    return rows_chart(reward, unit, [a.name for a in results.arms], [a.reward(reward) for a in results.arms], colors)


def _tag_table(arms: Sequence[Arm], tags: Sequence[str], strong: frozenset[str]) -> Block:
    headers = ["arm", "GenEval-lab", *(t.replace("_", " ") for t in tags), "requested color"]
    rows = [
        [
            arm.name,
            *(f"{e.value:.2f} ± {_half(e):.2f}" for e in (arm.overall, *map(arm.tag, tags), arm.requested_color)),
        ]
        for arm in arms
    ]
    caption = "Share of pictures that show what was asked, with half the width of the 95 % intervals"
    return Table(headers, rows, caption, _marked(arms, strong))


def _reward_table(arms: Sequence[Arm], rewards: Sequence[str], strong: frozenset[str]) -> Block:
    rows = [[arm.name, *(_brief(arm.reward(r)) for r in rewards)] for arm in arms]
    caption = "Mean raw scores, with half the width of the 95 % intervals"
    return Table(["arm", *rewards], rows, caption, _marked(arms, strong))


def _marked(arms: Sequence[Arm], strong: frozenset[str]) -> frozenset[int]:
    return frozenset(i for i, arm in enumerate(arms) if arm.name in strong)


def _brief(estimate: Estimate) -> str:
    digits = 1 if abs(estimate.value) >= 20 else 2 if abs(estimate.value) >= 2 else 3
    return f"{estimate.value:.{digits}f} ± {_half(estimate):.{digits}f}"


def _half(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2


def _guidance_table(search: Sequence[tuple[float, Arm]]) -> Block:
    if not search:
        return Text("The baseline's guidance was not searched for.", muted=True)
    best = max(range(len(search)), key=lambda i: search[i][1].overall.value)
    rows = [[f"{scale:g}", str(arm.overall), str(len(arm.tags))] for scale, arm in search]
    caption = "The baseline's text guidance, chosen on other prompts and seeds than those above (best in bold)"
    return Table(["guidance scale", "GenEval-lab", "pictures"], rows, caption, frozenset([best]))


def _alignment(results: QuickstartResults) -> Section:
    arms = [results.arm(results.unguided), results.arm(results.steered)]
    names, colors = [a.name for a in arms], [style.PLAIN, style.MIRO]
    charts = [
        rows_chart("requested color present", "share of pictures", names, [a.requested_color for a in arms], colors)
    ]
    if all("alignment" in a.scores for a in arms):
        found = [a.reward("alignment") for a in arms]
        charts.insert(0, rows_chart("alignment reward", "mean raw score", names, found, colors))
    lead = (
        "The same MIRO model with the same seeds: once unguided with every reward unknown, once with the alignment"
        " reward alone asked for. The color counts where a prompt names one object with a color."
    )
    return Section("alignment", "Steering the alignment reward alone", [Charts(charts)], lead)


def _losses(results: QuickstartResults) -> Section:
    colors = (style.BASELINE, style.MIRO, *style.SERIES[2:])
    curves = [loss_curve(run, name, color) for (name, run), color in zip(results.runs.items(), colors)]
    lead = "Both models saw the same number of pictures. MIRO also sees the levels, which makes its task easier."
    return Section("losses", "Loss curves", [Charts([loss_chart([c for c in curves if c.y])])], lead)


def _time(results: QuickstartResults) -> Section:
    total = sum(results.seconds.values())
    rows = [[stage, f"{s:.1f}", f"{100 * s / total:.0f} %"] for stage, s in results.seconds.items()] if total else []
    table = Table(["stage", "seconds", "share"], [*rows, ["together", f"{total:.1f}", "100 %"]])
    return Section("time", "Where the time went", [Charts([time_chart(results.seconds)]), table])


def _settings(results: QuickstartResults) -> Section:
    blocks: list[Block] = [
        Code(results.commands, "The same, step by step"),
        Code(results.settings, "Settings of this run"),
    ]
    return Section("settings", "To do it again", blocks)
