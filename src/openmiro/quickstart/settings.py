"""How large a quickstart is, and how its minutes are shared out."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pydantic import Field

from openmiro.core.config import Config
from openmiro.report import QUICKSTART_SUMMARY

BASELINE_RECIPE = "lab-baseline"
MIRO_RECIPE = "lab-miro"
MODELS = {"baseline": BASELINE_RECIPE, "MIRO": MIRO_RECIPE}
"""Names of the two models in the report, and their recipes."""


class EvaluationSettings(Config):
    """What both models are judged on.

    Attributes:
        prompts_per_tag: held-out prompts of every GenEval tag.
        validation_prompts_per_tag: other prompts, on which the baseline's guidance is chosen.
        guidance_scales: of the baseline's text guidance, to choose from.
        strip_prompts: pictures per level of a strip.
        shown_prompts: rows of a strip in the report.
        num_steps, solver: of the sampler, the same for every model.
        batch_size: pictures drawn at once.
        prompt_seed, validation_prompt_seed: of the prompts and of the noise.
    """

    prompts_per_tag: int = Field(default=60, ge=1)
    validation_prompts_per_tag: int = Field(default=20, ge=1)
    guidance_scales: tuple[float, ...] = (3.0, 5.0, 7.0, 9.0)
    strip_prompts: int = Field(default=48, ge=2)
    shown_prompts: int = Field(default=4, ge=1)
    num_steps: int = Field(default=16, ge=1)
    solver: str = "dpmpp_2m"
    batch_size: int = Field(default=96, ge=1)
    prompt_seed: int = 1_000_001
    validation_prompt_seed: int = 2_000_003


class QuickstartSettings(Config):
    """Everything about a quickstart besides its folder, its minutes and its seed.

    Attributes:
        num_pairs, pairs_per_shard, resolution: of the lab dataset.
        codec, text_encoder: that encode it.
        images: pictures that each model is trained on; None takes as many as the minutes allow.
        overrides: of both recipes, as on the command line.
        trial_images: pictures of the trial that measures the speed of training.
        evaluation: what both models are judged on.
        evaluation_seconds: kept for judging, on two cores.
        reserve_seconds: kept for starting processes and for the page.
    """

    num_pairs: int = Field(default=20_000, ge=1)
    pairs_per_shard: int = Field(default=2_500, ge=1)
    resolution: int = 24
    codec: str = "patch4x12"
    text_encoder: str = "words"
    images: int | None = Field(default=None, gt=0)
    overrides: tuple[str, ...] = ()
    trial_images: int = Field(default=3_840, gt=0)
    evaluation: EvaluationSettings = EvaluationSettings()
    evaluation_seconds: float = Field(default=55.0, ge=0)
    reserve_seconds: float = Field(default=20.0, ge=0)


class Folders:
    """Where a quickstart keeps what."""

    def __init__(self, out: Path) -> None:
        self.out = Path(out)
        self.shards = self.out / "shards"
        self.dataset = self.out / "dataset"
        self.runs = self.out / "runs"
        self.trials = self.out / "trials"
        self.plans = self.out / "plans"
        self.evaluation = self.out / "evaluation"
        self.timings = self.out / "timings.json"
        self.report = self.out / "report.html"
        self.summary = self.out / QUICKSTART_SUMMARY


def machine() -> str:
    """The machine in a few words, without its name."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
