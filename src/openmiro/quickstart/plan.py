"""How many pictures the minutes allow, from a short trial of the very processes that will train."""

from __future__ import annotations

from openmiro.core.artifact import read_json, write_json
from openmiro.core.config import Config, fingerprint
from openmiro.core.errors import OpenMiroError
from openmiro.quickstart.clock import Clock
from openmiro.quickstart.settings import MODELS, Folders, QuickstartSettings
from openmiro.quickstart.training import Job, images_per_second, threads_per_job, train_all
from openmiro.train.recipe import Recipe, load_recipe

ROUNDING = 3_200
"""Training pictures are a multiple of it."""
_REFERENCE_SPEED = 500.0
"""Pictures a second and process at which judging takes `evaluation_seconds`."""
_CAUTION = 0.98
"""Share of the measured speed that is counted on."""


class Plan(Config):
    """What one quickstart trains; written once, so that going on later changes nothing.

    Attributes:
        minutes, seed: as asked for.
        threads: of both trainings together.
        trial_speed: pictures a second of the slower model in the trial; 0 where there was none.
        images: pictures that each model sees.
    """

    minutes: float
    seed: int
    threads: int
    trial_speed: float
    images: int


def make_plan(
    settings: QuickstartSettings, folders: Folders, minutes: float, threads: int, seed: int, clock: Clock
) -> Plan:
    """The plan that was made before with the same arguments, or a new one after a trial."""
    path = folders.plans / f"{fingerprint([settings.dump(), minutes, seed])}.json"
    try:
        return Plan.parse(read_json(path), str(path))
    except OpenMiroError:
        pass
    speed = 0.0 if settings.images else _trial(settings, folders, threads, seed, clock)
    images = settings.images or affordable(settings, minutes, threads, speed, clock.total)
    plan = Plan(minutes=minutes, seed=seed, threads=threads, trial_speed=speed, images=images)
    write_json(path, plan.dump())
    return plan


def recipes(settings: QuickstartSettings, folders: Folders, images: int, threads: int, seed: int) -> dict[str, Recipe]:
    """The recipes of both models by name, on the same number of pictures."""
    changes = [
        f"images={images}",
        f"seed={seed}",
        f"threads={threads_per_job(threads, len(MODELS))}",
        f"data.dataset={folders.dataset}",
        *settings.overrides,
    ]
    return {name: load_recipe(recipe, changes) for name, recipe in MODELS.items()}


def jobs(settings: QuickstartSettings, folders: Folders, plan: Plan) -> list[Job]:
    """Both trainings. Runs of other lengths lie beside them and stay."""
    found = recipes(settings, folders, plan.images, plan.threads, plan.seed)
    return [Job(name, r, folders.runs / f"{r.name}-{plan.images}") for name, r in found.items()]


def _trial(settings: QuickstartSettings, folders: Folders, threads: int, seed: int, clock: Clock) -> float:
    found = recipes(settings, folders, settings.trial_images, threads, seed)
    trials = [Job(f"{name} (trial)", r, folders.trials / r.name) for name, r in found.items()]
    with clock.stage("measuring the speed of training", ticking=False):
        train_all(trials, threads, clock.console)
    return round(min(images_per_second(job.run) for job in trials), 1)


def affordable(settings: QuickstartSettings, minutes: float, threads: int, speed: float, spent: float) -> int:
    """Pictures for each model: what is left of the minutes after judging and the page, at the measured speed."""
    at_once = len(MODELS) if threads >= len(MODELS) else 1
    turns = len(MODELS) / at_once  # on one core everything takes twice as long
    judging = settings.evaluation_seconds * turns * max(0.5, _REFERENCE_SPEED / max(speed, 1.0))
    left = minutes * 60 - spent - judging - settings.reserve_seconds
    return max(1, int(left * speed * _CAUTION / turns) // ROUNDING) * ROUNDING
