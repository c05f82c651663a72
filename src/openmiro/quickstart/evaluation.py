"""Drawing and judging: many small jobs over all cores, each of which is remembered on disk."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from openmiro.core.artifact import atomic_path, read_json, sha256_file, write_json
from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import CheckpointError, DamagedFileError, OpenMiroError
from openmiro.core.presets import GuidanceKind
from openmiro.core.progress import progress
from openmiro.core.types import RewardModel
from openmiro.evaluate.steering import Arm, judge_arm
from openmiro.lab.prompts import Prompt, held_out_prompts, prompt_set
from openmiro.lab.scenes import LabSettings, Tag
from openmiro.quickstart.processes import spawn_environment
from openmiro.rewards.catalog import resolve_rewards
from openmiro.train.checkpoint import COMPLETE, list_checkpoints

if TYPE_CHECKING:
    from openmiro.pipeline import MiroPipeline

JUDGE_VERSION = 1
"""Changes whenever the same pictures would be judged otherwise, beyond what reward versions say."""


class PromptList(Config):
    """Held-out prompts: every tag's, or one tag's only, with the noise that goes with them.

    Attributes:
        num_per_tag: prompts of each tag.
        seed: of the prompts; picture i is drawn with seed + i.
        tag: only this one.
    """

    num_per_tag: int
    seed: int
    tag: Tag | None = None

    def prompts(self, resolution: int) -> list[Prompt]:
        """The prompts, tag by tag."""
        world = LabSettings(resolution=resolution)
        if self.tag is not None:
            return held_out_prompts(self.tag, self.num_per_tag, self.seed, world)
        return prompt_set(self.num_per_tag, self.seed, world)


class Way(Config):
    """One way of sampling: all that a call of the pipeline is told. Rewards without a target are unknown."""

    targets: dict[str, float] = {}
    avoid: dict[str, float] | None = None
    guidance: GuidanceKind = "auto"
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    num_steps: int = 20
    solver: str = "dpmpp_2m"

    def describe(self) -> str:
        """One line for people."""
        if self.guidance_scale == 1:
            return f"unguided{self._levels('; target', self.targets)}; {self.solver}, {self.num_steps} steps"
        text = f"{self.guidance} guidance {self.guidance_scale:g}{self._levels('; target', self.targets)}"
        text += self._levels("; avoid", self.avoid or {})
        if self.guidance_interval:
            text += "; at noise levels {:g} to {:g}".format(*self.guidance_interval)
        return f"{text}; {self.solver}, {self.num_steps} steps"

    @staticmethod
    def _levels(label: str, levels: dict[str, float]) -> str:
        return f"{label} " + ", ".join(f"{k} {v:g}" for k, v in levels.items()) if levels else ""


class Job(Config):
    """Pictures of one model, one way of sampling and one list of prompts, judged.

    Attributes:
        name: of the arm.
        run: run folder of the model.
        way: how to sample.
        prompts: what to draw.
        rewards: to score with.
        resolution: of the pictures.
        batch_size: pictures drawn at once.
    """

    name: str
    run: str
    way: Way
    prompts: PromptList
    rewards: tuple[str, ...]
    resolution: int
    batch_size: int

    def key(self, checkpoint: str) -> str:
        """Equal exactly where the same pictures are judged in the same way."""
        versions = {m.spec.name: m.spec.version for m in _rewards(self.rewards)}
        asked = {**self.dump(), "name": "", "run": checkpoint, "versions": versions, "judge": JUDGE_VERSION}
        return fingerprint(asked)


class Judged(Config):
    """The outcome of a job; its pictures lie beside it, in one PNG."""

    arm: Arm

    @staticmethod
    def paths(folder: Path, key: str) -> tuple[Path, Path]:
        """The record and the pictures."""
        return folder / f"{key}.json", folder / f"{key}.png"


class Gallery:
    """Pictures of finished jobs, read from their contact sheets."""

    def __init__(self, folder: Path, resolution: int) -> None:
        self.folder, self.resolution = folder, resolution

    def pictures(self, key: str, indices: Sequence[int]) -> list[Image.Image]:
        """Some pictures of a job, by the numbers of their prompts."""
        size = self.resolution
        with Image.open(Judged.paths(self.folder, key)[1]) as sheet:
            columns = sheet.width // size
            boxes = [((i % columns) * size, (i // columns) * size) for i in indices]
            return [sheet.crop((x, y, x + size, y + size)) for x, y in boxes]


def judge_all(jobs: Sequence[Job], folder: Path, num_workers: int) -> list[tuple[str, Arm]]:
    """Draws and judges every job that was not done before; returns key and arm of each, in order.

    Raises:
        OpenMiroError: a model cannot be read.
    """
    checkpoints = {run: checkpoint_fingerprint(Path(run)) for run in {job.run for job in jobs}}
    keys = [job.key(checkpoints[job.run]) for job in jobs]
    todo = {key: job for key, job in zip(keys, jobs, strict=True) if _read(folder, key) is None}
    sizes = {key: len(job.prompts.prompts(job.resolution)) for key, job in zip(keys, jobs, strict=True)}
    done = sum(size for key, size in sizes.items() if key not in todo)
    with progress("drawing and judging", sum(sizes.values()), "pictures", done=done) as advance:
        for key in _run(todo, folder, num_workers):
            advance(sizes[key], todo[key].name)
    return [(key, _known(folder, key).arm) for key in keys]


def checkpoint_fingerprint(run: Path) -> str:
    """Changes whenever the newest checkpoint of a run does."""
    folders = list_checkpoints(run)
    if not folders:
        raise CheckpointError(f"{run} holds no checkpoint. Delete it and run the same command again.")
    return sha256_file(folders[-1] / COMPLETE)[:16]


def _run(todo: dict[str, Job], folder: Path, num_workers: int) -> Iterator[str]:
    if num_workers <= 1 or len(todo) <= 1:
        for key, job in todo.items():
            yield _judge(job, folder, key)
        return
    with _pool(num_workers) as pool:
        # Long jobs first, so that no core is left alone with one at the end.
        order = sorted(todo.items(), key=lambda item: -_cost(item[1]))
        futures: list[Future[str]] = [pool.submit(_judge, job, folder, key) for key, job in order]
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    with spawn_environment(1):
        pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def _cost(job: Job) -> float:
    branches = 1 if job.way.guidance_scale == 1 else 2
    tags = 1 if job.prompts.tag else len(Tag)
    return job.prompts.num_per_tag * tags * branches


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)


def _judge(job: Job, folder: Path, key: str) -> str:
    """Draws, judges and writes one job; returns its key."""
    prompts = job.prompts.prompts(job.resolution)
    images = draw(_pipeline(job.run), job, [p.text for p in prompts])
    arm = judge_arm(job.name, images, prompts, _rewards(job.rewards))
    record, pictures = Judged.paths(folder, key)
    with atomic_path(pictures) as temporary:
        _sheet(images).save(temporary, "PNG")
    write_json(record, Judged(arm=arm).dump())
    return key


def draw(pipeline: MiroPipeline, job: Job, texts: Sequence[str]) -> list[Image.Image]:
    """One picture per text, with the noise of the job's prompts."""
    way = job.way
    output = pipeline(
        list(texts),
        reward_targets=way.targets,
        negative_reward_targets=way.avoid,
        guidance=way.guidance,
        guidance_scale=way.guidance_scale,
        guidance_interval=way.guidance_interval,
        num_inference_steps=way.num_steps,
        solver=way.solver,
        seeds=[job.prompts.seed + i for i in range(len(texts))],
        batch_size=job.batch_size,
    )
    return output.to_pil()


@cache
def _pipeline(run: str) -> MiroPipeline:
    import torch

    from openmiro.pipeline import MiroPipeline
    from openmiro.train.precision import resolve_precision

    precision = resolve_precision("auto", torch.device("cpu"))
    return MiroPipeline.from_pretrained(run, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)


@cache
def _rewards(names: tuple[str, ...]) -> tuple[RewardModel, ...]:
    return tuple(resolve_rewards(names))


def _sheet(images: Sequence[Image.Image]) -> Image.Image:
    columns = min(len(images), 16)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * width, i // columns * height))
    return sheet


def _read(folder: Path, key: str) -> Judged | None:
    record, pictures = Judged.paths(folder, key)
    if not (record.exists() and pictures.exists()):
        return None
    try:
        return Judged.parse(read_json(record), str(record))
    except OpenMiroError:
        return None


def _known(folder: Path, key: str) -> Judged:
    found = _read(folder, key)
    if found is None:
        raise DamagedFileError(f"{Judged.paths(folder, key)[0]} is damaged. Delete it and run the same command again.")
    return found
