"""The training loop: plain PyTorch, one screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from openmiro.core.errors import InterruptedTrainingError
from openmiro.core.progress import Advance, progress
from openmiro.core.seeds import stream_key
from openmiro.core.types import LatentBatch
from openmiro.train.dataset_source import open_dataset
from openmiro.train.distributed import Group, process_group
from openmiro.train.hooks import Hook, SampleGrid, is_due
from openmiro.train.monitor import StepRecord
from openmiro.train.optim import learning_rate_factor, set_learning_rate
from openmiro.train.precision import autocast
from openmiro.train.recipe import Recipe
from openmiro.train.session import Session, default_device, open_session
from openmiro.train.signals import StopRequest
from openmiro.train.source import SampleSource


@dataclass(frozen=True)
class TrainResult:
    """What a finished run is.

    Attributes:
        run: its folder.
        checkpoint: the last one.
        steps, images: in total.
        resumed_from: step at which this call took up the work; 0 for a new run.
        loss: mean over the last logged steps; NaN where nothing was left to do.
        seconds: that this call took.
    """

    run: Path
    checkpoint: Path
    steps: int
    images: int
    resumed_from: int
    loss: float
    seconds: float

    @property
    def images_per_second(self) -> float:
        done = self.images * (self.steps - self.resumed_from) / max(self.steps, 1)
        return done / self.seconds if self.seconds else 0.0

    def summary(self) -> str:
        """One line for people."""
        if self.resumed_from == self.steps:
            return f"nothing left to do: {self.run} has all {self.images} images ({self.steps} steps)"
        begin = f"resumed at step {self.resumed_from}, " if self.resumed_from else ""
        return (
            f"{begin}{self.images} images in {self.steps} steps, loss {self.loss:.4f},"
            f" {self.images_per_second:,.0f} images/s: {self.checkpoint}"
        )


def train(
    recipe: Recipe,
    out: Path,
    *,
    source: SampleSource | None = None,
    device: torch.device | str | None = None,
    hooks: Sequence[Hook] = (),
) -> TrainResult:
    """Trains a recipe in a run folder, or goes on with it exactly where its newest checkpoint is.

    Works in one process or, under torchrun, in several.

    Args:
        recipe: what to train, its dataset included.
        out: the run folder.
        source: samples from elsewhere than the recipe's dataset, such as `RandomSource`.
        device: default: the accelerator where there is one.
        hooks: called after every step, besides the sample grid that the recipe asks for.

    Raises:
        InterruptedTrainingError: a signal asked to stop, and the run was saved.
        NonFiniteLossError: the loss became NaN or infinite.
        OpenMiroError: the recipe, the data or the run folder cannot be used; the message says what to do.
    """
    with process_group() as group, StopRequest() as stop:
        target = torch.device(device) if device is not None else default_device(group)
        return _train_in_group(recipe, Path(out), source, target, hooks, group, stop)


def _train_in_group(
    recipe: Recipe,
    out: Path,
    source: SampleSource | None,
    device: torch.device,
    hooks: Sequence[Hook],
    group: Group,
    stop: StopRequest,
) -> TrainResult:
    # A function of its own, so that everything that talks to other processes is gone before the group is.
    begun = time.perf_counter()
    with open_session(recipe, source or open_dataset(recipe), out, group, device) as session:
        first = session.step
        grid = [SampleGrid(recipe)] if recipe.samples.every_images else []
        checkpoint = _run(session, [*grid, *hooks], stop)
        return TrainResult(
            run=session.run,
            checkpoint=checkpoint,
            steps=session.step,
            images=session.images,
            resumed_from=first,
            loss=session.monitor.last_loss,
            seconds=time.perf_counter() - begun,
        )


def _run(session: Session, hooks: Sequence[Hook], stop: StopRequest) -> Path:
    recipe, batch_size, last = session.recipe, session.recipe.batch_size, session.recipe.num_steps
    batches = session.feed.from_step(session.step, session.device)
    bar = _progress(session)
    checkpoint = session.run / "checkpoints" / f"step-{session.step:06d}"
    session.forward.train()
    with bar as advance:
        while session.step < last:
            waiting = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - waiting
            session.monitor.record(_step(session, batch), waited)
            session.step += 1
            if session.step % recipe.log.every_steps == 0:
                session.monitor.flush()
            for hook in hooks:
                hook.after_step(session)
            stopping = session.group.any(stop.asked)
            if stopping or is_due(session.step, recipe.checkpoint.every_images, batch_size, last):
                checkpoint = session.save()
            if stopping and session.step < last:
                raise InterruptedTrainingError(
                    f"stopped by {stop.name or 'a signal to another process'} after step {session.step} of {last} and"
                    f" saved {checkpoint}. Run the same command again to go on."
                )
            advance(batch_size, note=f"loss {session.monitor.last_loss:.4f}")
    return checkpoint


def _progress(session: Session) -> AbstractContextManager[Advance]:
    if not session.group.is_main:
        return nullcontext(lambda count=1, note="": None)
    total = session.recipe.num_steps * session.recipe.batch_size
    return progress(session.recipe.name, total, "images", done=session.images)


def _step(session: Session, batch: LatentBatch) -> StepRecord:
    """One update of the weights; returns without waiting for the accelerator."""
    recipe, step = session.recipe, session.step
    # Whatever a denoiser draws from torch's own generator becomes a function of the step, too.
    torch.manual_seed(stream_key(recipe.seed, f"step/{step}/{session.group.rank}") >> 1)
    losses = _accumulate(session, batch)
    parameters = list(session.denoiser.parameters())
    norm = clip_grad_norm_(parameters, recipe.clip_norm or float("inf"), foreach=True)
    factor = learning_rate_factor(session.images, recipe.schedule, recipe.images)
    set_learning_rate(session.optimizer, factor)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    session.ema.update(session.images + recipe.batch_size, recipe.batch_size)
    rate = recipe.optimizer.learning_rate * factor
    return StepRecord(step + 1, losses, norm.detach(), rate, batch)


def _accumulate(session: Session, batch: LatentBatch) -> Tensor:
    """Adds the gradients of a batch, part by part; returns the loss of each sample [b]."""
    num_parts = session.recipe.gradient_accumulation
    size = len(batch) // num_parts
    losses = []
    for i in range(num_parts):
        # Processes exchange gradients once a step, with the last part.
        sync = getattr(session.forward, "no_sync", None) if i < num_parts - 1 else None
        with sync() if sync else nullcontext():
            with autocast(session.precision, session.device):
                part = session.forward(batch[i * size : (i + 1) * size])
            (part.mean() / num_parts).backward()
        losses.append(part.detach())
    return torch.cat(losses)
