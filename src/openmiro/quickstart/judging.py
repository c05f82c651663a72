"""Which pictures are drawn and judged, and what becomes of them in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from openmiro.core.presets import DEFAULT_PRESET, SamplingPreset, SamplingSettings
from openmiro.evaluate.steering import ASKED, Arm, Strip, make_strip
from openmiro.lab.scenes import Tag
from openmiro.quickstart.evaluation import Gallery, Job, PromptList, Way, judge_all
from openmiro.quickstart.settings import EvaluationSettings
from openmiro.report.quickstart_page import SameSeed, StripPictures
from openmiro.rewards.levels import LevelTables

STEERED_REWARD = "alignment"
SHOWCASE_PRESET = "balanced"
"""The preset of the recipe that is to beat the baseline; its default where it has none of this name."""
STRIP_GUIDANCE = 4.0
"""Guidance scale of the strips."""
STEERED_GUIDANCE = 3.0
"""Guidance scale where one reward is steered alone."""
_UNGUIDED = "unguided"


@dataclass(frozen=True)
class Judgement:
    """All that was measured.

    Attributes:
        arms: on the same prompts and seeds; the baseline at its best guidance first.
        ways: how each arm was sampled.
        search: the baseline's guidance scales on validation prompts.
        strips: one per reward of the MIRO model.
        same_seed: pictures side by side.
        baseline, miro, unguided, steered: names of the arms that the verdicts compare.
    """

    arms: list[Arm]
    ways: dict[str, str]
    search: list[tuple[float, Arm]]
    strips: list[StripPictures]
    same_seed: SameSeed
    baseline: str
    miro: str
    unguided: str
    steered: str

    def arm(self, name: str) -> Arm:
        """An arm by name."""
        return next(a for a in self.arms if a.name == name)


class Judging:
    """Plans and runs all drawing and judging of two trained models.

    Args:
        runs: run folders by model name, the baseline first.
        levels: of the MIRO model's rewards.
        sampling: the MIRO recipe's presets.
        settings: what to judge on.
        resolution: of the pictures.
        folder: where results are remembered.
        workers: processes.
    """

    def __init__(
        self,
        runs: Mapping[str, Path],
        levels: LevelTables,
        sampling: SamplingSettings,
        settings: EvaluationSettings,
        resolution: int,
        folder: Path,
        workers: int,
    ) -> None:
        self.baseline, self.miro = runs
        self.runs, self.levels, self.sampling, self.settings = runs, levels, sampling, settings
        self.resolution, self.folder, self.workers = resolution, folder, workers
        self.gallery = Gallery(folder, resolution)
        self.presets = _distinct(sampling)
        self.showcase = SHOWCASE_PRESET if SHOWCASE_PRESET in self.presets else _name_of_default(self.presets, sampling)

    def run(self) -> Judgement:
        """Draws and judges everything that was not judged before."""
        search_jobs = [self._search_job(scale) for scale in self.settings.guidance_scales]
        strip_jobs = [self._strip_job(name, level) for name in self.levels.names for level in ASKED]
        arm_jobs = self._miro_jobs()
        found = self._judge([*search_jobs, *arm_jobs, *strip_jobs])
        search = [(job.way.guidance_scale, found[job.name][1]) for job in search_jobs]
        best = max(search, key=lambda item: item[1].overall.value)[0]
        baseline_jobs = self._baseline_jobs(best)
        found |= self._judge(baseline_jobs)
        shown = [*baseline_jobs, *arm_jobs]
        return Judgement(
            arms=[found[job.name][1] for job in shown],
            ways={job.name: job.way.describe() for job in shown},
            search=search,
            strips=[self._strip(name, [found[_strip_name(name, a)] for a in ASKED]) for name in self.levels.names],
            same_seed=self._same_seed({job.name: found[job.name][0] for job in shown}),
            baseline=baseline_jobs[0].name,
            miro=self._name(self.showcase),
            unguided=self._name(_UNGUIDED),
            steered=self._name(f"{STEERED_REWARD} alone"),
        )

    def _judge(self, jobs: Sequence[Job]) -> dict[str, tuple[str, Arm]]:
        """Key and arm of each job, by the job's name."""
        return dict(zip([job.name for job in jobs], judge_all(jobs, self.folder, self.workers), strict=True))

    def _name(self, way: str) -> str:
        return f"{self.miro} {way}"

    def _job(self, name: str, model: str, way: Way, prompts: PromptList, rewards: Sequence[str]) -> Job:
        return Job(
            name=name,
            run=str(self.runs[model]),
            way=way.model_copy(update={"num_steps": self.settings.num_steps, "solver": self.settings.solver}),
            prompts=prompts,
            rewards=tuple(rewards),
            resolution=self.resolution,
            batch_size=self.settings.batch_size,
        )

    @property
    def _test(self) -> PromptList:
        return PromptList(num_per_tag=self.settings.prompts_per_tag, seed=self.settings.prompt_seed)

    def _search_job(self, scale: float) -> Job:
        way = _text_guided(scale)
        num, seed = self.settings.validation_prompts_per_tag, self.settings.validation_prompt_seed
        return self._job(f"scale {scale:g}", self.baseline, way, PromptList(num_per_tag=num, seed=seed), ())

    def _baseline_jobs(self, best: float) -> list[Job]:
        ways = {f"text guidance {best:g}": best, _UNGUIDED: 1.0}
        return [
            self._job(f"{self.baseline} {name}", self.baseline, _text_guided(scale), self._test, self.levels.names)
            for name, scale in ways.items()
        ]

    def _miro_jobs(self) -> list[Job]:
        ways = {_UNGUIDED: _text_guided(1.0), **self.presets, f"{STEERED_REWARD} alone": self._steered_way()}
        return [self._job(self._name(n), self.miro, w, self._test, self.levels.names) for n, w in ways.items()]

    def _steered_way(self) -> Way:
        """One reward at its best against the same reward at its worst, at the same text; no more."""
        best, worst = {STEERED_REWARD: 1.0}, {STEERED_REWARD: 0.0}
        return Way(targets=best, avoid=worst, guidance="reward", guidance_scale=STEERED_GUIDANCE)

    def _strip_job(self, reward: str, level: float) -> Job:
        # Away from the farther end of the scale and from the null text; the middle is as far from both ends.
        targets, avoid = {reward: level}, {} if level == 0.5 else {reward: float(level < 0.5)}
        way = Way(targets=targets, avoid=avoid, guidance="joint", guidance_scale=STRIP_GUIDANCE)
        seed = self.settings.prompt_seed + 1
        prompts = PromptList(num_per_tag=self.settings.strip_prompts, seed=seed, tag=Tag.COLORS)
        return self._job(_strip_name(reward, level), self.miro, way, prompts, (reward,))

    def _strip(self, reward: str, judged: Sequence[tuple[str, Arm]]) -> StripPictures:
        strip: Strip = make_strip(self.levels.table(reward), ASKED, [arm.scores[reward] for _, arm in judged])
        num = min(self.settings.shown_prompts, self.settings.strip_prompts)
        prompts = self._strip_job(reward, 0).prompts.prompts(self.resolution)[:num]
        columns = [self.gallery.pictures(key, range(num)) for key, _ in judged]
        return StripPictures(strip, [p.text for p in prompts], list(zip(*columns, strict=True)))

    def _same_seed(self, keys: Mapping[str, str]) -> SameSeed:
        prompts = self._test.prompts(self.resolution)
        per_tag = self.settings.prompts_per_tag
        chosen = [i for i in range(len(prompts)) if i % per_tag < min(2, per_tag)]
        columns: list[list[Image]] = [self.gallery.pictures(key, chosen) for key in keys.values()]
        return SameSeed(list(keys), [prompts[i].text for i in chosen], list(zip(*columns, strict=True)))


def _text_guided(scale: float) -> Way:
    return Way(guidance="text", guidance_scale=scale)


def _distinct(sampling: SamplingSettings) -> dict[str, Way]:
    """The presets, each way of sampling once: a name of its own goes before "default"."""
    found: dict[str, Way] = {}
    for name in (*sampling.presets, DEFAULT_PRESET):
        way = _way_of(sampling.preset(name))
        if way not in found.values():
            found[name] = way
    return found


def _name_of_default(presets: Mapping[str, Way], sampling: SamplingSettings) -> str:
    return next(name for name, way in presets.items() if way == _way_of(sampling.default))


def _way_of(preset: SamplingPreset) -> Way:
    return Way(
        targets=preset.targets,
        avoid=preset.avoid,
        guidance=preset.guidance,
        guidance_scale=preset.guidance_scale,
        guidance_interval=preset.guidance_interval,
    )


def _strip_name(reward: str, level: float) -> str:
    return f"strip of {reward} at {level:g}"
