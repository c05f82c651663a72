"""`MiroPipeline`: called as diffusers' pipelines are, with reward targets besides the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from openmiro.codecs.files import tensors_digest
from openmiro.core.config import fingerprint
from openmiro.core.errors import CheckpointError, ConfigError
from openmiro.core.presets import GuidanceKind, SamplingSettings
from openmiro.core.types import Condition, Denoiser, ImageCodec, RewardSet, TextEncoder
from openmiro.flow.guidance import Branch, Interval, guided_velocity, reward_guidance
from openmiro.flow.solvers import SOLVERS, solve, time_grid
from openmiro.pipeline.metadata import PictureMetadata
from openmiro.pipeline.noise import draw_noise, resolve_seeds
from openmiro.pipeline.output import OUTPUT_TYPES, MiroPipelineOutput, OutputType, convert
from openmiro.pipeline.request import Request, resolve_guidance, resolve_interval, resolve_scale
from openmiro.pipeline.targets import RewardUnits, TargetValue
from openmiro.rewards.levels import LevelTables

StepEndCallback = Callable[["MiroPipeline", int, float, dict[str, Tensor]], Any]
"""(pipeline, step, t, {"latents": x}), as in diffusers; what it returns is not looked at. Raising stops sampling."""


class MiroPipeline:
    """A denoiser with all that it takes to draw pictures from words and reward targets.

    Args:
        denoiser: predicts velocity.
        codec: latents to pictures.
        text_encoder: prompts to tokens.
        rewards: what the denoiser is conditioned on, in its order; may be empty.
        levels: level tables of those rewards, for raw units; None where they are not known.
        resolution: side of the pictures in pixels.
        sampling: presets; the default one fills in what a call leaves out.

    Raises:
        CheckpointError: the parts do not fit each other.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: ImageCodec,
        text_encoder: TextEncoder,
        rewards: RewardSet,
        levels: LevelTables | None = None,
        *,
        resolution: int,
        sampling: SamplingSettings | None = None,
    ) -> None:
        self.denoiser, self.codec, self.text_encoder = denoiser, codec, text_encoder
        self.rewards, self.levels, self.resolution = rewards, levels, resolution
        self.sampling = sampling or SamplingSettings()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._fingerprint: tuple[int, str] | None = None
        self._check_parts()
        if isinstance(denoiser, torch.nn.Module):
            denoiser.eval()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_convention: Literal["diffusers", "paper"] = "diffusers",
        guidance: GuidanceKind = "auto",
        guidance_interval: tuple[float, float] | None = None,
        preset: str | None = None,
        reward_targets: Mapping[str, TargetValue] | None = None,
        negative_reward_targets: Mapping[str, TargetValue] | None = None,
        reward_units: RewardUnits = "level",
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seeds: Sequence[int] | None = None,
        latents: Tensor | None = None,
        solver: str | None = None,
        batch_size: int = 64,
        output_type: OutputType = "pil",
        callback_on_step_end: StepEndCallback | None = None,
    ) -> MiroPipelineOutput:
        """Draws pictures. What is left out comes from the preset, and the preset from the checkpoint.

        Args:
            prompt: one text or a list. An empty text asks for nothing: the null text.
            negative_prompt: what text or joint guidance leads away from, instead of the null text.
            num_inference_steps: solver steps.
            guidance_scale: 1 is off.
            guidance_convention: "paper" reads the scale as the paper's w, which is 0 when off: scale = w + 1.
            guidance: "reward" leads from the avoid levels to the target levels at the same text; "text" from the null
                text to the text at the same levels; "joint" does both at once; "auto" takes the preset's where the
                targets come from it, else reward guidance where a target is known, else text guidance.
            guidance_interval: noise levels (low, high) at which guidance is on.
            preset: a named setting of the checkpoint.
            reward_targets: by reward name, a number, one per prompt or per picture, or None. Rewards that are not named
                are unknown. Leaving out the whole argument takes the preset's targets; {} asks for nothing.
            negative_reward_targets: likewise, what to lead away from. Left out: with given targets, the lowest level of
                every reward that has a target; else the preset's.
            reward_units: "level" in [0, 1], or "raw" in each reward's own unit.
            num_images_per_prompt: pictures of one prompt, lying together in the output.
            generator: one, or one per picture; a fresh generator is its seed (see `resolve_seeds`).
            seeds: one per picture, instead of a generator.
            latents: noise [B, C, H, W], instead of either.
            solver: "euler", "heun", "dpmpp_2m" or a dotted path.
            batch_size: pictures drawn at once.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: called after every step of every batch.

        Raises:
            UnknownNameError: an unknown reward (lists the checkpoint's), preset or solver.
            TargetError: a target out of range, not finite, or of the wrong length.
            ConfigError: any other argument out of range.
        """
        chosen = self.sampling.preset(preset)
        request = Request.parse(
            prompt, negative_prompt, num_images_per_prompt, reward_targets, negative_reward_targets, reward_units,
            chosen, self.rewards, self.levels,
        )  # fmt: skip
        from_preset = reward_targets is None or preset is not None
        kind = resolve_guidance(guidance, chosen if from_preset else None, request, len(self.rewards))
        scale = resolve_scale(guidance_scale, guidance_convention, chosen)
        interval = resolve_interval(guidance_interval, chosen)
        num_steps = chosen.num_steps if num_inference_steps is None else num_inference_steps
        solver = chosen.solver if solver is None else solver
        grid = time_grid(num_steps)
        SOLVERS.resolve(solver)
        _check_choices(output_type, batch_size)
        used, noise = self._noise(len(request), seeds, generator, latents)

        results = []
        for start in range(0, len(request), batch_size):
            rows = slice(start, start + batch_size)
            branches = self._branches(request[rows], kind, scale)
            with self._autocast():
                velocity = guided_velocity(self.denoiser, branches, interval)
                x = solve(solver, velocity, noise[rows].to(self.device), grid, self._callback(callback_on_step_end))
            results.append(x.float().cpu() if output_type == "latent" else self._decode(x))
        pictures = torch.cat(results)
        common = {
            "guidance": kind,
            "guidance_scale": scale,
            "guidance_interval": None if interval == Interval() else tuple(interval),
            "num_steps": num_steps,
            "solver": solver,
            "model": self.fingerprint(),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
        return MiroPipelineOutput(
            images=pictures if output_type == "latent" else convert(pictures, output_type),
            seeds=used,
            reward_targets=request.target,
            negative_reward_targets=request.avoid,
            metadata=tuple(
                PictureMetadata(**request.describe(k, self.rewards), seed=used[k] if used else None, **common)
                for k in range(len(request))
            ),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Moves all parts to a device and sets the arithmetic; weights stay in float32, bfloat16 runs by autocast.

        Raises:
            ConfigError: another type than float32 and bfloat16.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None:
            if dtype not in (torch.float32, torch.bfloat16):
                raise ConfigError(f"the pipeline runs in float32 or bfloat16, not {dtype}")
            self.dtype = dtype
        if device is not None:
            self.device = torch.device(device)
            for part in (self.denoiser, self.codec, self.text_encoder):
                move = getattr(part, "to", None)
                if move is not None:
                    move(self.device)
        return self

    def fingerprint(self) -> str:
        """Of all that decides a picture besides the call: weights, codec, text encoder, rewards."""
        weights = self.denoiser.state_dict() if isinstance(self.denoiser, torch.nn.Module) else {}
        state = sum(tensor._version for tensor in weights.values())  # grows with every change in place
        if self._fingerprint is None or self._fingerprint[0] != state:
            parts = {
                "denoiser": tensors_digest(weights),
                "codec": self.codec.fingerprint(),
                "text_encoder": self.text_encoder.fingerprint(),
                "rewards": list(self.rewards.names),
            }
            self._fingerprint = state, fingerprint(parts)
        return self._fingerprint[1]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes an export folder in diffusers' layout and returns it. See `openmiro.pipeline.folders`."""
        from openmiro.pipeline.folders import save_export

        return save_export(self, Path(folder))

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """The pipeline of an export folder, a training checkpoint, or a run folder (its latest checkpoint).

        Checkpoints are read with their averaged weights.

        Raises:
            CheckpointError: no such folder, incomplete, damaged, or parts that do not fit.
        """
        from openmiro.pipeline.folders import read_parts

        parts = read_parts(Path(path))
        pipeline = cls(
            parts.denoiser,
            parts.codec,
            parts.text_encoder,
            parts.model.rewards,
            parts.levels,
            resolution=parts.model.resolution,
            sampling=parts.model.sampling,
        )
        return pipeline.to(device, dtype)

    def encode_text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Text and mask of prompts, on the pipeline's device."""
        batch = self.text_encoder.encode(list(prompts))
        return batch.text.to(self.device), batch.mask.to(self.device)

    def _branches(self, request: Request, kind: str, scale: float) -> list[Branch]:
        text, mask = self.encode_text(request.prompts)
        target = Condition(text, mask, *request.target).to(self.device)
        avoid = target.with_levels(*(t.to(self.device) for t in request.avoid)) if kind != "text" else target
        if kind != "reward":
            avoid = avoid.null_text()
            if request.negative_prompts is not None:
                text, mask = self.encode_text(request.negative_prompts)
                avoid = replace(avoid, text=text, text_mask=mask)
        return reward_guidance(target, avoid, scale)

    def _noise(
        self,
        num_images: int,
        seeds: Sequence[int] | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        latents: Tensor | None,
    ) -> tuple[tuple[int, ...], Tensor]:
        if latents is None:
            used = resolve_seeds(num_images, seeds, generator)
            return used, draw_noise(used, self.denoiser.latent_shape)
        if seeds is not None or generator is not None:
            raise ConfigError("give either latents, or seeds, or a generator")
        expected = (num_images, *self.denoiser.latent_shape)
        if tuple(latents.shape) != expected:
            raise ConfigError(f"latents must have the shape {expected}, not {tuple(latents.shape)}")
        if not latents.isfinite().all():
            raise ConfigError("latents must be finite")
        return (), latents.float()

    def _decode(self, x: Tensor) -> Tensor:
        return self.codec.decode(x.float()).float().cpu()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def _callback(self, callback: StepEndCallback | None) -> Callable[[int, int, float, Tensor], None] | None:
        if callback is None:
            return None

        def report(step: int, num_steps: int, t: float, x: Tensor) -> None:
            callback(self, step, t, {"latents": x})

        return report

    def _check_parts(self) -> None:
        shape = tuple(self.denoiser.latent_shape)
        made = tuple(self.codec.latent_shape(self.resolution))
        if shape != made:
            raise CheckpointError(
                f"the denoiser works on latents {shape}, but the codec {self.codec.name} makes {made} at"
                f" {self.resolution} pixels"
            )
        expected = getattr(getattr(self.denoiser, "config", None), "num_rewards", len(self.rewards))
        if expected != len(self.rewards):
            raise CheckpointError(f"the denoiser reads {expected} rewards, but {len(self.rewards)} are named")
        if self.levels is not None and self.levels.names != self.rewards.names:
            raise CheckpointError(
                f"the level tables are those of {', '.join(self.levels.names) or 'no rewards'}, but the denoiser reads"
                f" {', '.join(self.rewards.names) or 'none'}"
            )
        for preset in (self.sampling.default, *self.sampling.presets.values()):
            for name in (*preset.targets, *preset.avoid):
                self.rewards.index(name)


def _check_choices(output_type: str, batch_size: int) -> None:
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type must be one of {', '.join(OUTPUT_TYPES)} (given: {output_type!r})")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1 (given: {batch_size})")
