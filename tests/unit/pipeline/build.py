"""A tiny random pipeline, whose every input changes its pictures."""

import numpy as np
import torch

from openmiro.codecs import build_codec, build_text_encoder
from openmiro.core.presets import SamplingPreset, SamplingSettings
from openmiro.core.types import RewardSet, RewardSpec
from openmiro.models.factory import build_denoiser
from openmiro.pipeline import MiroPipeline
from openmiro.rewards.levels import ScoreColumn, fit_levels

REWARDS = RewardSet(
    specs=tuple(
        RewardSpec(name=name, unit="points", needs_text=name == "alignment", version="1")
        for name in ("aesthetic", "sharpness", "alignment")
    )
)
SAMPLING = SamplingSettings(
    default=SamplingPreset(targets={"aesthetic": 0.75}, avoid={"sharpness": 0.25}, num_steps=3, solver="euler"),
    presets={"strong": SamplingPreset(targets={"alignment": 1.0}, guidance="joint", guidance_scale=2.5, num_steps=2)},
)
CAPTIONS = ["a red square", "a blue circle on the left", "two rings"]


def levels(rewards=REWARDS):
    """Level tables of scores 0, 1, ..., 999, so that raw score s stands near level s / 1000."""
    scores = np.arange(1000, dtype=np.float32)
    return fit_levels([ScoreColumn(spec, lambda: iter([scores])) for spec in rewards.specs], num_bins=64)


def random_denoiser(num_rewards, vocabulary_size, seed=0, latent_shape=(6, 4, 4)):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        denoiser = build_denoiser({
            "kind": "dit", "latent_shape": latent_shape, "num_rewards": num_rewards, "max_text_tokens": 6,
            "vocabulary_size": vocabulary_size, "width": 32, "depth": 2, "heads": 2,
        })  # fmt: skip
        for parameter in denoiser.parameters():  # a fresh DiT predicts zero whatever it is told
            torch.nn.init.normal_(parameter, std=0.2)
    return denoiser


def tiny_pipeline(rewards=REWARDS, with_levels=True, sampling=SAMPLING, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(40, 3, 4, 4, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3) * 2 - 1
    data = (data + 0.3 * torch.randn(data.shape, generator=generator)).clamp(-1, 1)
    codec = build_codec("patch", {"patch_size": 4, "num_channels": 6}).fit([data])
    encoder = build_text_encoder("words", {"max_tokens": 6}).fit(CAPTIONS)
    denoiser = random_denoiser(len(rewards), encoder.vocabulary_size, seed)
    return MiroPipeline(
        denoiser, codec, encoder, rewards, levels(rewards) if with_levels else None, resolution=16, sampling=sampling
    )


def plain_pipeline():
    """The same without rewards."""
    settings = SamplingSettings(default=SamplingPreset(num_steps=3, solver="euler"))
    return tiny_pipeline(RewardSet(), with_levels=False, sampling=settings)
