"""Recipes: complete, named, validated configurations of one training run.

A recipe is a YAML file. ``extends: other`` lays it over another recipe, mapping by mapping. A template file such as
``lab-only-@.yaml`` stands for one recipe per reward: the name behind the dash replaces every ``@``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from openmiro.core.config import Config, apply_overrides, merge, read_yaml
from openmiro.core.errors import ConfigError, MissingFileError, UnknownNameError
from openmiro.core.presets import SamplingSettings
from openmiro.flow.path import LogitNormalTime, TimeDistribution
from openmiro.train.optim import OptimizerSettings, ScheduleSettings

RECIPE_FOLDER = Path(__file__).parent.parent / "recipes"
LAB_REWARDS = ("aesthetic", "sharpness", "alignment", "similarity", "preference_a", "preference_b", "shadow")
_MARK = "@"
_DROP = "-"


class DataSettings(Config):
    """Which columns of which dataset.

    Attributes:
        dataset: the dataset folder.
        codec: name of the image codec; None where the dataset has only one.
        text_encoder: name of the text encoder; None where the dataset has only one.
        synthetic_share: probability that a row with both captions is seen with its synthetic one.
    """

    dataset: str | None = None
    codec: str | None = None
    text_encoder: str | None = None
    synthetic_share: float = Field(default=0.0, ge=0, le=1)


class DropoutSettings(Config):
    """Probabilities with which parts of the condition are withheld, so that the model also works without them.

    Attributes:
        text: of the whole caption.
        reward: of each reward on its own.
        all_rewards: of all rewards at once.
    """

    text: float = Field(default=0.1, ge=0, le=1)
    reward: float = Field(default=0.2, ge=0, le=1)
    all_rewards: float = Field(default=0.1, ge=0, le=1)


class EmaSettings(Config):
    """Averaged weights, which sampling uses.

    Attributes:
        half_life_images: images after which a weight's part in the average has halved.
        ramp_up: the half-life is at most this share of the images seen so far, so that a young average is not
            dominated by the initial weights; None for no such limit.
    """

    half_life_images: float = Field(default=10_000, gt=0)
    ramp_up: float | None = Field(default=0.1, gt=0)


class CheckpointSettings(Config):
    """When to save (in images seen) and how many of the newest checkpoints to keep."""

    every_images: int = Field(default=50_000, gt=0)
    keep: int = Field(default=2, ge=1)


class LogSettings(Config):
    """How often metrics are read from the device and written, in steps."""

    every_steps: int = Field(default=10, gt=0)


class SampleSettings(Config):
    """Pictures drawn during training from the averaged weights, and their rewards.

    Attributes:
        every_images: images between two grids; 0 for no samples.
        prompts: one picture per prompt, with the same noise every time.
        rewards: scored on those pictures (names of the catalog).
        num_steps: solver steps.
    """

    every_images: int = Field(default=0, ge=0)
    prompts: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    num_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _prompts_given(self) -> SampleSettings:
        if self.every_images and not self.prompts:
            raise ValueError("samples.every_images is set, but samples.prompts is empty")
        return self


class Recipe(Config):
    """Everything that decides what a training run computes, and how it is watched.

    Attributes:
        name: of the recipe; the default name of its run folder.
        images: total number of images seen; a last partial batch is not trained on.
        batch_size: images per step over all processes and accumulation parts.
        rewards: conditioned on, in the order of the R axis; may be empty.
        model: settings of the denoiser: its `kind` and that kind's own keys.
        time: distribution of noise levels.
        precision: "auto" takes bf16 where the hardware is good at it; decided once per run.
        gradient_accumulation: parts into which each process splits its share of a batch, to save memory.
        clip_norm: largest norm of the whole gradient; None for no limit.
        compile: run the step through torch.compile.
        num_data_workers: processes that prepare batches; 0 prepares them in the training process.
        threads: arithmetic threads on the CPU; None takes torch's default. Results are bit-identical for equal threads.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    images: int = Field(gt=0)
    batch_size: int = Field(default=64, gt=0)
    data: DataSettings = DataSettings()
    rewards: tuple[str, ...] = ()
    model: dict[str, Any] = {"kind": "dit"}
    time: TimeDistribution = Field(default=LogitNormalTime(), discriminator="kind")
    optimizer: OptimizerSettings = OptimizerSettings.parse({})
    schedule: ScheduleSettings = ScheduleSettings.parse({})
    dropout: DropoutSettings = DropoutSettings()
    ema: EmaSettings = EmaSettings()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_accumulation: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    compile: bool = False
    num_data_workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)
    checkpoint: CheckpointSettings = CheckpointSettings()
    log: LogSettings = LogSettings()
    samples: SampleSettings = SampleSettings()
    sampling: SamplingSettings = SamplingSettings()

    @property
    def num_steps(self) -> int:
        return self.images // self.batch_size

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.num_steps == 0:
            raise ValueError(f"images ({self.images}) is less than one batch ({self.batch_size})")
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of gradient_accumulation"
                f" ({self.gradient_accumulation})"
            )
        if len(set(self.rewards)) != len(self.rewards):
            raise ValueError("a reward is named twice in rewards")
        for preset in (self.sampling.default, *self.sampling.presets.values()):
            for name in {**preset.targets, **preset.avoid}:
                if name not in self.rewards:
                    hint = f"Take it out of the preset with sampling.default.targets.{name}=null."
                    raise UnknownNameError("reward in sampling:", name, self.rewards, hint)
        return self


def list_recipes() -> list[str]:
    """Names of all shipped recipes, templates written out."""
    names = []
    for path in sorted(RECIPE_FOLDER.glob("*.yaml")):
        stem = path.stem
        names += [stem.replace(_MARK, reward) for reward in LAB_REWARDS] if _MARK in stem else [stem]
    return sorted(names)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe or a YAML file, with changes such as ``"optimizer.learning_rate=3e-4"``.

    Raises:
        UnknownNameError: no shipped recipe has this name, or a key does not exist (names the nearest).
        MissingFileError: the YAML file does not exist.
        ConfigError: a value has the wrong type or is out of range, or ``extends`` runs in a circle.
    """
    where = f"recipe {name_or_path}"
    values = _values(str(name_or_path), chain=())
    return Recipe.parse(apply_overrides(values, overrides), where)


def _values(name_or_path: str, chain: tuple[str, ...], beside: Path | None = None) -> dict[str, Any]:
    if name_or_path in chain:
        raise ConfigError(f"recipes extend each other in a circle: {' -> '.join([*chain, name_or_path])}")
    text, path, name = _read(name_or_path, beside)
    own = read_yaml(text, f"recipe {name_or_path}")
    parent = own.pop("extends", None)
    own.setdefault("name", name)
    base = _values(str(parent), (*chain, name_or_path), path.parent) if parent is not None else {}
    return _without_dropped(merge(base, own))


def _read(name_or_path: str, beside: Path | None) -> tuple[str, Path, str]:
    """The text of a recipe, its file, and the name that it gives to the run."""
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if beside is not None and not path.is_absolute():
            path = beside / path
        if not path.is_file():
            raise MissingFileError(
                f"the recipe file {path} does not exist. Shipped recipes: {', '.join(list_recipes())}"
            )
        return path.read_text(encoding="utf-8"), path, path.stem
    if name_or_path not in list_recipes():
        raise UnknownNameError("recipe", name_or_path, list_recipes(), "Or the path of a .yaml file.")
    path = RECIPE_FOLDER / f"{name_or_path}.yaml"
    if path.is_file():
        return path.read_text(encoding="utf-8"), path, name_or_path
    for path in RECIPE_FOLDER.glob(f"*{_MARK}*.yaml"):
        start, _, end = path.stem.partition(_MARK)
        reward = name_or_path[len(start) : len(name_or_path) - len(end)]
        if name_or_path == f"{start}{reward}{end}" and reward in LAB_REWARDS:
            return path.read_text(encoding="utf-8").replace(_MARK, reward), path, name_or_path
    raise UnknownNameError("recipe", name_or_path, list_recipes())


def _without_dropped(values: Mapping[str, Any]) -> dict[str, Any]:
    """Applies ``-rewards: [name]``, which takes entries out of the list `rewards` of the extended recipe."""
    result = {key: value for key, value in values.items() if not key.startswith(_DROP)}
    for key, dropped in values.items():
        if key.startswith(_DROP):
            target = key.removeprefix(_DROP)
            result[target] = [item for item in result.get(target, []) if item not in dropped]
    return result
