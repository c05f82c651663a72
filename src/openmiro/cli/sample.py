"""`openmiro sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from openmiro.cli.options import SeedOption, parse_pairs

Guidance = Literal["auto", "reward", "text", "joint"]


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A run folder, a checkpoint or an export folder.")],
    prompts: Annotated[list[str], typer.Argument(help="One picture (or --num) per prompt.")],
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="reward=level in [0, 1]; repeat for several rewards.")
    ] = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option("--avoid", help="reward=level to lead away from. Default: 0 where a target is set."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A named setting stored in the checkpoint.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Targets are raw scores in the reward's own unit.")] = False,
    guidance_scale: Annotated[float | None, typer.Option("--guidance-scale", "-g", help="1 is off.")] = None,
    guidance: Annotated[Guidance, typer.Option(help="What the negative branch leaves out.")] = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps.")] = None,
    solver: Annotated[str | None, typer.Option(help="euler, heun or dpmpp_2m.")] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Pictures per prompt.")] = 1,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the PNG files.")] = Path("samples"),
    upscale: Annotated[int, typer.Option(min=1, help="Enlarge small pictures by this factor, pixels kept square.")] = 1,
) -> None:
    """Draw pictures; every PNG carries its prompt, seed and settings.

    Example: openmiro sample runs/photos-tiny "a red square" --target colorfulness=0.9 --out samples
    """
    from openmiro.pipeline import MiroPipeline

    pipe = MiroPipeline.from_pretrained(checkpoint)
    output = pipe(
        list(prompts),
        num_images_per_prompt=num,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        guidance=guidance,
        preset=preset,
        solver=solver,
        reward_targets=_numbers(target, "--target"),
        negative_reward_targets=_numbers(avoid, "--avoid"),
        reward_units="raw" if raw else "level",
        seeds=[seed + k for k in range(len(prompts) * num)],
    )
    for path in output.save(out, upscale=upscale):
        typer.echo(path)


def _numbers(pairs: list[str] | None, option: str) -> dict[str, float] | None:
    from openmiro.core.errors import ConfigError

    if not pairs:
        return None
    result = {}
    for name, text in parse_pairs(pairs, option).items():
        try:
            result[name] = float(text)
        except ValueError:
            raise ConfigError(f"{option} {name}={text}: '{text}' is not a number") from None
    return result
