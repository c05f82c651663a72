"""What happens beside the steps of a run: pictures drawn from the averaged weights, and their rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from PIL import Image

from openmiro.core.artifact import atomic_path
from openmiro.core.errors import ConfigError
from openmiro.core.presets import SamplingPreset
from openmiro.core.seeds import normal
from openmiro.core.types import Condition, ImageCodec, TextEncoder
from openmiro.flow.guidance import Branch, Interval, guided_velocity, joint_guidance, reward_guidance, text_guidance
from openmiro.flow.solvers import solve, time_grid
from openmiro.rewards.base import score_pairs
from openmiro.rewards.catalog import load_reward
from openmiro.train.recipe import Recipe

if TYPE_CHECKING:
    from openmiro.train.session import Session


class Hook(Protocol):
    """Called after every step, before a checkpoint that is due at it."""

    def after_step(self, session: Session) -> None: ...


class SampleGrid:
    """Draws the recipe's fixed prompts with fixed noise and writes `samples/step-000500.png` and mean rewards.

    Everything is a function of the averaged weights, so a resumed run writes the same bytes.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.settings, self.preset, self.seed = recipe.samples, recipe.sampling.default, recipe.seed
        self.names, self.batch_size = recipe.rewards, recipe.batch_size
        self.models = [load_reward(name) for name in self.settings.rewards]

    def after_step(self, session: Session) -> None:
        """Draws where `samples.every_images` images have passed since the last grid, and at the end."""
        if not is_due(session.step, self.settings.every_images, self.batch_size, session.recipe.num_steps):
            return
        session.monitor.flush()  # so that the lines of metrics.jsonl stay in order
        if session.group.is_main:
            with session.ema.applied(), torch.no_grad():
                pictures = self.draw(session)
            self._write(session, pictures)
        session.group.barrier()
        session.monitor.pause()

    def draw(self, session: Session) -> list[Image.Image]:
        """One picture per prompt from the denoiser's current weights."""
        denoiser, device, origin = session.denoiser, session.device, session.origin
        if origin.codec is None or origin.text_encoder is None:
            raise ConfigError("samples.every_images needs data with a codec and a text encoder: set it to 0")
        condition = _encode(origin.text_encoder, self.settings.prompts, len(self.names)).to(device)
        branches = _branches(condition, self.preset, self.names)
        count = range(len(self.settings.prompts))
        noise = normal(self.seed, "sample grid", list(count), denoiser.latent_shape).to(device)
        grid = time_grid(self.settings.num_steps)
        interval = Interval(*(self.preset.guidance_interval or ()))
        latents = solve(self.preset.solver, guided_velocity(denoiser, branches, interval), noise, grid)
        return _pictures(origin.codec, latents)

    def _write(self, session: Session, pictures: list[Image.Image]) -> None:
        path = session.run / "samples" / f"step-{session.step:06d}.png"
        with atomic_path(path) as temporary:
            contact_sheet(pictures).save(temporary, format="PNG")
        values = {}
        for model in self.models:
            scores = score_pairs(model, pictures, list(self.settings.prompts))
            values[f"val/reward/{model.spec.name}/mean"] = float(np.mean(scores, dtype=np.float64))
        finite = {name: value for name, value in values.items() if np.isfinite(value)}
        if finite:
            session.log.metrics(session.step, session.step * self.batch_size, finite)


def is_due(step: int, every_images: int, batch_size: int, num_steps: int) -> bool:
    """Whether this step is the first to pass a multiple of `every_images`, or the last; never where it is 0."""
    if every_images == 0:
        return False
    passed = step * batch_size // every_images > (step - 1) * batch_size // every_images
    return passed or step == num_steps


def contact_sheet(pictures: list[Image.Image], gap: int = 2) -> Image.Image:
    """Pictures of one size side by side, in rows of about as many as there are rows."""
    columns = max(1, round(len(pictures) ** 0.5 + 0.49))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def _encode(encoder: TextEncoder, prompts: tuple[str, ...], num_rewards: int) -> Condition:
    text, mask = encoder.encode(prompts)
    unknown = torch.zeros(len(prompts), num_rewards)
    return Condition(text, mask, unknown, unknown.bool())


def _branches(condition: Condition, preset: SamplingPreset, names: tuple[str, ...]) -> list[Branch]:
    target, avoid = _with_levels(condition, preset.targets, names), _with_levels(condition, preset.avoid, names)
    if preset.guidance == "text" or not (preset.targets or preset.avoid):
        return text_guidance(target, preset.guidance_scale)
    if preset.guidance == "joint":
        return joint_guidance(target, avoid, preset.guidance_scale)
    return reward_guidance(target, avoid, preset.guidance_scale)


def _with_levels(condition: Condition, levels: dict[str, float], names: tuple[str, ...]) -> Condition:
    row = torch.tensor([levels.get(name, 0.0) for name in names])
    known = torch.tensor([name in levels for name in names], dtype=torch.bool)
    size = (len(condition), len(names))
    device = condition.level.device
    return condition.with_levels(row.expand(size).to(device), known.expand(size).to(device))


def _pictures(codec: ImageCodec, latents: torch.Tensor) -> list[Image.Image]:
    pixels = codec.decode(latents).float().clamp(-1, 1)
    values = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(value) for value in values]
