"""The quickstart from an empty folder to a report; every stage goes on where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openmiro.annotate import annotate, encode, fit_dataset_levels
from openmiro.annotate.engines import available_cores, sigterm_as_interrupt
from openmiro.core.artifact import write_json
from openmiro.core.errors import ConfigError
from openmiro.core.progress import progress
from openmiro.evaluate.intervals import Estimate
from openmiro.evaluate.steering import Arm
from openmiro.lab.scenes import LabSettings, Tag
from openmiro.lab.shards import synthesize
from openmiro.quickstart.clock import Clock
from openmiro.quickstart.judging import Judgement, Judging
from openmiro.quickstart.plan import Plan, jobs, make_plan
from openmiro.quickstart.settings import MIRO_RECIPE, MODELS, Folders, QuickstartSettings, machine
from openmiro.quickstart.training import train_all
from openmiro.quickstart.verdicts import make_verdicts
from openmiro.report.blocks import Verdict
from openmiro.report.quickstart_page import QuickstartResults, write_quickstart_report
from openmiro.rewards.catalog import REWARD_SETS
from openmiro.rewards.levels import LevelTables
from openmiro.train.recipe import load_recipe

_MOST_THREADS = 16
_SHOWN_REWARDS = {"aesthetic": "aesth.", "sharpness": "sharp.", "alignment": "align."}


@dataclass(frozen=True)
class QuickstartResult:
    """What a quickstart ends with.

    Attributes:
        report, summary: its page and the same numbers as JSON.
        verdicts: what was to be shown, and whether it was.
        images: pictures that each model was trained on.
        seconds: by stage.
    """

    report: Path
    summary: Path
    verdicts: tuple[Verdict, ...]
    images: int
    seconds: dict[str, float]


def run_quickstart(
    out: Path = Path("runs/quickstart"),
    minutes: float = 10,
    threads: int | None = None,
    seed: int = 0,
    settings: QuickstartSettings | None = None,
) -> QuickstartResult:
    """Makes a lab dataset, trains a baseline and a MIRO model on it, compares them, and writes a report.

    Interrupted anywhere and called again with the same arguments, it goes on where it was. Other minutes use the same
    dataset and train longer or shorter runs beside the first.

    Args:
        out: folder for everything.
        minutes: wall-clock time for all stages together, on two cores.
        threads: cores to use; None is all, up to 16.
        seed: everything random is a function of it.
        settings: sizes, for tests and experiments.

    Raises:
        ConfigError: minutes or threads are out of range.
        ProvenanceError: the folder holds a dataset of another seed.
        InterruptedTrainingError: stopped by a signal; every model was saved.
    """
    if minutes <= 0 or (threads is not None and threads < 1):
        raise ConfigError(f"minutes and threads must be positive (given: {minutes:g} minutes, {threads} threads)")
    settings = settings or QuickstartSettings()
    threads = min(threads or available_cores(), _MOST_THREADS)
    console = Console(stderr=True)
    folders = Folders(out)
    clock = Clock(folders.timings, f"{minutes:g} minutes, seed {seed}, {settings.fingerprint()}", console)
    console.print(f"quickstart in {folders.out}: {minutes:g} minutes on {threads} cores", highlight=False)
    with sigterm_as_interrupt():
        _prepare(settings, folders, threads, seed, clock)
        plan = make_plan(settings, folders, minutes, threads, seed, clock)
        models = jobs(settings, folders, plan)
        with clock.stage(f"training both models on {plan.images:,} pictures", ticking=False):
            train_all(models, threads, console)
        judging = Judging(
            runs={job.name: job.run for job in models},
            levels=LevelTables.load(folders.dataset / "levels.json").subset(models[-1].recipe.rewards),
            sampling=load_recipe(MIRO_RECIPE, settings.overrides).sampling,
            settings=settings.evaluation,
            resolution=settings.resolution,
            folder=folders.evaluation,
            workers=threads,
        )
        with clock.stage("drawing and judging"):
            found = judging.run()
        return _finish(settings, folders, plan, found, clock)


def _prepare(settings: QuickstartSettings, folders: Folders, workers: int, seed: int, clock: Clock) -> None:
    with clock.stage("making lab pictures"):
        world = LabSettings(resolution=settings.resolution)
        synthesize(folders.shards, settings.num_pairs, seed, world, settings.pairs_per_shard, workers)
    with clock.stage("scoring them with seven rewards"):
        annotate(folders.shards, folders.dataset, REWARD_SETS["lab"], num_workers=workers)
        fit_dataset_levels(folders.dataset)
    with clock.stage("encoding pictures and captions"):
        encode(folders.dataset, settings.codec, settings.text_encoder, settings.resolution, num_workers=workers)


def _finish(
    settings: QuickstartSettings, folders: Folders, plan: Plan, found: Judgement, clock: Clock
) -> QuickstartResult:
    verdicts = make_verdicts(
        found.arm(found.baseline),
        found.arm(found.miro),
        found.arm(found.unguided),
        found.arm(found.steered),
        [s.strip for s in found.strips],
    )
    with clock.stage("writing the report"), progress("writing the report", 1, "page") as advance:
        write_quickstart_report(_results(settings, folders, plan, found, verdicts, clock), folders.report)
        write_json(folders.summary, _summary(plan, found, verdicts, clock))
        advance()
    _print_summary(found, verdicts, clock, folders)
    return QuickstartResult(folders.report, folders.summary, tuple(verdicts), plan.images, clock.seconds)


def _results(
    settings: QuickstartSettings,
    folders: Folders,
    plan: Plan,
    found: Judgement,
    verdicts: list[Verdict],
    clock: Clock,
) -> QuickstartResults:
    runs = {job.name: job.run for job in jobs(settings, folders, plan)}
    facts = [
        ("machine", machine()),
        ("cores used", str(plan.threads)),
        ("torch", str(torch.__version__)),
        ("time", f"{clock.total / 60:.1f} of {plan.minutes:g} minutes"),
        ("dataset", f"{settings.num_pairs:,} pairs, {settings.resolution} pixels"),
        ("training", f"{plan.images:,} pictures each"),
        ("seed", str(plan.seed)),
    ]
    return QuickstartResults(
        subtitle=(
            "Two models of one architecture saw the same pictures in the same order. The baseline was told the caption;"
            " MIRO was also told how seven rewards rank each picture, so it can be asked for any of them."
        ),
        facts=facts,
        verdicts=verdicts,
        dataset=folders.dataset,
        runs=runs,
        same_seed=found.same_seed,
        strips=found.strips,
        arms=found.arms,
        highlighted=list(dict.fromkeys([found.baseline, found.miro, found.steered])),
        about_arms=found.ways,
        guidance_search=found.search,
        unguided=found.unguided,
        steered=found.steered,
        seconds=clock.seconds,
        settings=f"# quickstart\n{settings.to_yaml()}# plan\n{plan.to_yaml()}",
        commands=_commands(settings, folders, plan),
    )


def _commands(settings: QuickstartSettings, folders: Folders, plan: Plan) -> str:
    size, rounded = settings.resolution, f"images={plan.images} seed={plan.seed}"
    lines = [
        f"openmiro quickstart --minutes {plan.minutes:g} --out {folders.out} --seed {plan.seed}",
        "",
        f"openmiro data synth {folders.shards} --pairs {settings.num_pairs} --resolution {size}"
        f" --pairs-per-shard {settings.pairs_per_shard} --seed {plan.seed}",
        f"openmiro annotate {folders.shards} --out {folders.dataset} --rewards lab",
        f"openmiro levels fit {folders.dataset}",
        f"openmiro encode {folders.dataset} --codec {settings.codec} --resolution {size}",
        *(f"openmiro train {recipe} --data {folders.dataset} {rounded}" for recipe in MODELS.values()),
        f"openmiro sample runs/{MIRO_RECIPE} 'a red square' --target alignment=1 --guidance-scale 3 --upscale 8",
    ]
    return "\n".join(lines)


def _summary(plan: Plan, found: Judgement, verdicts: list[Verdict], clock: Clock) -> dict:
    return {
        "plan": plan.dump(),
        "machine": machine(),
        "seconds": clock.seconds,
        "verdicts": [{"claim": v.claim, "answer": v.answer, "evidence": v.evidence} for v in verdicts],
        "arms": {arm.name: {"sampling": found.ways[arm.name], **_numbers(arm)} for arm in found.arms},
        "guidance_search": {f"{scale:g}": _interval(arm.overall) for scale, arm in found.search},
        "strips": {
            s.strip.reward: {
                "rank_correlation": _rounded(s.strip.rank_correlation),
                "rank_correlation_pooled": _rounded(s.strip.pooled_rank_correlation),
                "rank_correlation_of_means": _rounded(s.strip.mean_rank_correlation),
                "asked": list(s.strip.asked),
                "obtained": [_interval(e) for e in s.strip.raw_means],
            }
            for s in found.strips
        },
    }


def _numbers(arm: Arm) -> dict:
    return {
        "geneval": {"overall": _interval(arm.overall), **{t: _interval(arm.tag(t)) for t in arm.tag_names}},
        "requested_color": _interval(arm.requested_color),
        "rewards": {name: _interval(arm.reward(name)) for name in arm.scores},
    }


def _interval(estimate: Estimate) -> list[float | None]:
    numbers = (estimate.value, estimate.low, estimate.high)
    return [_rounded(n) for n in numbers]


def _rounded(number: float) -> float | None:
    return round(number, 5) if math.isfinite(number) else None


def _print_summary(found: Judgement, verdicts: list[Verdict], clock: Clock, folders: Folders) -> None:
    console = Console()
    table = Table(title="baseline and MIRO on one budget", title_justify="left", box=None)
    table.add_column("arm", no_wrap=True)
    for column in ("GenEval", "single", "color", *_SHOWN_REWARDS.values()):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    for arm in found.arms:
        shares = (arm.overall, arm.tag(Tag.SINGLE_OBJECT), arm.requested_color)
        rewards = (f"{arm.reward(n).value:.3g}" if n in arm.scores else "-" for n in _SHOWN_REWARDS)
        table.add_row(arm.name, *(f"{s.value:.2f}" for s in shares), *rewards)
    console.print(table)
    for verdict in verdicts:
        style = {"yes": "green", "no": "red"}.get(verdict.answer, "yellow")
        line = f"[{style}]{verdict.answer:>3}[/{style}]  {escape(verdict.claim)}: {escape(verdict.evidence)}"
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"{clock.total / 60:.1f} minutes. The report: {folders.report}", highlight=False, soft_wrap=True)
