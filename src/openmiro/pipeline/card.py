"""The model card that an export folder carries as README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from openmiro.core.presets import SamplingPreset

if TYPE_CHECKING:
    from openmiro.pipeline.pipeline import MiroPipeline


def model_card(pipeline: MiroPipeline) -> str:
    """Markdown with the front matter that the Hub reads: what the model is told, its presets, and how to call it."""
    return "\n".join(
        [
            "---",
            "library_name: openmiro",
            "pipeline_tag: text-to-image",
            "tags: [text-to-image, flow-matching, reward-conditioning]",
            "---",
            "",
            "# Reward-conditioned text-to-image model",
            "",
            f"Pictures of {pipeline.resolution}x{pipeline.resolution} pixels, {_num_parameters(pipeline):,} parameters,"
            f" image codec `{pipeline.codec.name}`, text encoder `{pipeline.text_encoder.name}`.",
            "",
            "```python",
            "from openmiro.pipeline import MiroPipeline",
            "",
            'pipe = MiroPipeline.from_pretrained("path/to/this/folder")',
            _example(pipeline),
            "```",
            "",
            *_rewards(pipeline),
            *_presets(pipeline),
            f"Fingerprint: `{pipeline.fingerprint()}`",
            "",
        ]
    )


def _num_parameters(pipeline: MiroPipeline) -> int:
    denoiser = pipeline.denoiser
    return sum(p.numel() for p in denoiser.parameters()) if isinstance(denoiser, torch.nn.Module) else 0


def _example(pipeline: MiroPipeline) -> str:
    if not len(pipeline.rewards):
        return 'pipe("a prompt", seeds=[0]).images[0]'
    return f'pipe("a prompt", reward_targets={{"{pipeline.rewards.names[0]}": 1.0}}, seeds=[0]).images[0]'


def _rewards(pipeline: MiroPipeline) -> list[str]:
    if not len(pipeline.rewards):
        return ["It was trained without rewards.", ""]
    lines = [
        "## Rewards",
        "",
        "Targets are levels in [0, 1]: the share of the training pictures that score lower. A reward that is not named"
        " is unknown to the model.",
        "",
        "| reward | measures | unit | raw score at level 0 / 0.5 / 1 | license |",
        "|---|---|---|---|---|",
    ]
    for spec in pipeline.rewards.specs:
        row = (spec.name, spec.description, spec.unit, _raw_range(pipeline, spec.name), spec.license)
        lines.append("| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in row) + " |")
    return [*lines, ""]


def _raw_range(pipeline: MiroPipeline, name: str) -> str:
    if pipeline.levels is None or not pipeline.levels.table(name).num_values:
        return "not known"
    return " / ".join(f"{pipeline.levels.inverse(name, level):.4g}" for level in (0.0, 0.5, 1.0))


def _presets(pipeline: MiroPipeline) -> list[str]:
    sampling = pipeline.sampling
    lines = [
        "## Presets",
        "",
        "| name | targets | avoid | guidance | scale | steps | solver |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sampling.names:
        lines.append(_preset_row(name, sampling.preset(name)))
    return [*lines, ""]


def _preset_row(name: str, preset: SamplingPreset) -> str:
    def levels(values: dict[str, float]) -> str:
        return ", ".join(f"{key} {level:g}" for key, level in values.items()) or "unknown"

    cells = (name, levels(preset.targets), levels(preset.avoid), preset.guidance, f"{preset.guidance_scale:g}",
             str(preset.num_steps), preset.solver)  # fmt: skip
    return "| " + " | ".join(cells) + " |"
