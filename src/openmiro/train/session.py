"""Everything that one training run holds, put together from a recipe and a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from openmiro.core.artifact import write_json
from openmiro.core.errors import CheckpointError, ConfigError
from openmiro.core.log import RunLog
from openmiro.core.seeds import stream_key
from openmiro.core.types import Denoiser, LatentBatch
from openmiro.models.factory import build_denoiser
from openmiro.train import runs
from openmiro.train.checkpoint import Checkpoint, Progress, load_latest, save_checkpoint
from openmiro.train.distributed import Group
from openmiro.train.ema import Ema
from openmiro.train.feed import Feed, open_share
from openmiro.train.loss import flow_matching_loss
from openmiro.train.monitor import Monitor
from openmiro.train.optim import build_optimizer
from openmiro.train.precision import Precision, resolve_precision
from openmiro.train.recipe import Recipe
from openmiro.train.source import Origin, SampleSource


class StepModule(nn.Module):
    """The forward pass of a step as one module, because DDP only follows what passes through `forward`."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, batch: LatentBatch) -> Tensor:
        """Loss of each sample, float32 [B]."""
        return flow_matching_loss(self.denoiser, batch)


@dataclass
class Session:
    """One run at work. `step` counts finished steps; everything else is put together once.

    Attributes:
        recipe, run, group, device, precision: what, where, with whom, on what, in which arithmetic.
        feed: makes this process's batch of any step.
        origin: codec, text encoder and levels of the data, for pictures and for checkpoints.
        denoiser: the bare network; `forward` is it under DDP and compilation.
        optimizer, ema: follow the denoiser.
        log, monitor: metrics.
    """

    recipe: Recipe
    run: Path
    group: Group
    device: torch.device
    precision: Precision
    feed: Feed
    origin: Origin
    denoiser: Any
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    log: RunLog
    monitor: Monitor
    step: int = 0

    @property
    def images(self) -> int:
        return self.step * self.recipe.batch_size

    def save(self) -> Path:
        """Writes a checkpoint of the present step (first process only) and returns its folder."""
        self.monitor.flush()
        self.log.flush()  # metrics up to here must not be lost where the checkpoint is not
        folder = self.run / "checkpoints"
        if self.group.is_main:
            folder = save_checkpoint(self.run, self._checkpoint(), self._write_extras, self.recipe.checkpoint.keep)
        self.group.barrier()
        self.monitor.pause()
        return folder

    def _checkpoint(self) -> Checkpoint:
        progress = Progress(
            step=self.step,
            images=self.images,
            recipe=runs.recipe_fingerprint(self.recipe),
            data=self.feed.source.fingerprint,
            precision=self.precision,
            world_size=self.group.world_size,
        )
        return Checkpoint(progress, self.denoiser.state_dict(), self.ema.state_dict(), self.optimizer.state_dict())

    def _write_extras(self, folder: Path) -> None:
        """What sampling needs besides the weights."""
        origin = self.origin
        (folder / "recipe.yaml").write_text(self.recipe.to_yaml(), encoding="utf-8")
        description = {
            "denoiser": self.denoiser.config.dump(),
            "rewards": origin.rewards.dump(),
            "resolution": origin.resolution,
            "sampling": self.recipe.sampling.dump(),
        }
        write_json(folder / "model.json", description)
        if origin.levels is not None:
            origin.levels.save(folder / "levels.json")
        if origin.codec is not None:
            origin.codec.save(folder / "codec")
        if origin.text_encoder is not None:
            origin.text_encoder.save(folder / "text_encoder")


@contextmanager
def open_session(
    recipe: Recipe, source: SampleSource, run: Path, group: Group, device: torch.device
) -> Iterator[Session]:
    """Puts a run together: new, or where its newest intact checkpoint left it.

    Raises:
        CheckpointError: the folder belongs to another recipe, or every checkpoint is damaged.
        ProvenanceError: the folder or the levels belong to other data.
        ConfigError: the batch cannot be divided among the processes.
    """
    _check_divisible(recipe, group)
    runs.check_same_recipe(run, recipe)
    with ExitStack() as stack:
        if group.is_main:
            stack.enter_context(runs.sole_writer(run))
        group.barrier()
        environment = runs.read_environment(run)
        if environment is None:
            precision = resolve_precision(recipe.precision, device)
            environment = runs.begin(source.fingerprint, recipe, group.gather(precision)[0], device)
        runs.check_same_data(run, environment.data, source.fingerprint, environment.dataset)
        stack.enter_context(_threads(environment.threads))
        stack.enter_context(torch.random.fork_rng(_accelerators(device)))
        denoiser = _build(recipe, source).to(device)
        optimizer, ema = build_optimizer(denoiser, recipe.optimizer), Ema(denoiser, recipe.ema)
        checkpoint = load_latest(run)
        step = 0
        if checkpoint is not None:
            runs.check_same_data(run, checkpoint.progress.data, source.fingerprint)
            step = _restore(checkpoint, denoiser, optimizer, ema)
        group.barrier()  # every process has read the folder before the first one writes to it
        if group.is_main:
            runs.claim(run, recipe, environment)
        with RunLog(run if group.is_main else None, after_step=step) as log:
            yield Session(
                recipe=recipe,
                run=run,
                group=group,
                device=device,
                precision=environment.precision,
                feed=open_share(recipe, source, group),
                origin=source.origin(),
                denoiser=denoiser,
                forward=_wrap(denoiser, recipe, group, device),
                optimizer=optimizer,
                ema=ema,
                log=log,
                monitor=Monitor(run, log, group, recipe.batch_size),
                step=step,
            )


def default_device(group: Group) -> torch.device:
    """The accelerator of this process, or the CPU."""
    return torch.device("cuda", group.local_rank) if torch.cuda.is_available() else torch.device("cpu")


def _check_divisible(recipe: Recipe, group: Group) -> None:
    parts = group.world_size * recipe.gradient_accumulation
    if recipe.batch_size % parts:
        raise ConfigError(
            f"batch_size ({recipe.batch_size}) must be a multiple of processes x gradient_accumulation"
            f" ({group.world_size} x {recipe.gradient_accumulation})"
        )


def _build(recipe: Recipe, source: SampleSource) -> Any:
    torch.manual_seed(stream_key(recipe.seed, "initial weights") >> 1)
    return build_denoiser({**recipe.model, **source.model_inputs})


def _wrap(denoiser: Any, recipe: Recipe, group: Group, device: torch.device) -> nn.Module:
    module: Any = StepModule(denoiser)
    if recipe.compile:
        module = torch.compile(module)
    if group.world_size == 1:
        return module
    # Harmless: a depthwise weight has an axis of length 1, whose stride means nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def _restore(checkpoint: Checkpoint, denoiser: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema) -> int:
    _check_fits(denoiser.state_dict(), checkpoint.denoiser)
    _check_fits(ema.state_dict(), checkpoint.ema)
    denoiser.load_state_dict(checkpoint.denoiser)
    ema.load_state_dict(checkpoint.ema)
    optimizer.load_state_dict(checkpoint.optimizer)
    return checkpoint.progress.step


def _check_fits(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    shapes = {name: tuple(t.shape) for name, t in expected.items()}
    given = {name: tuple(t.shape) for name, t in found.items()}
    wrong = sorted(name for name in {*shapes, *given} if shapes.get(name) != given.get(name))
    if wrong:
        listing = "; ".join(f"{n}: {given.get(n, 'missing')} instead of {shapes.get(n, 'nothing')}" for n in wrong[:5])
        raise CheckpointError(f"the checkpoint does not fit the model ({len(wrong)} tensors differ): {listing}")


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _accelerators(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
