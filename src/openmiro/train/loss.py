"""The flow-matching loss."""

from __future__ import annotations

from torch import Tensor

from openmiro.core.types import Denoiser, LatentBatch
from openmiro.flow.path import interpolate, velocity_target


def flow_matching_loss(denoiser: Denoiser, batch: LatentBatch) -> Tensor:
    """Mean squared velocity error of each sample, float32 [B].

    E || v_theta(x_t, c, s) - (eps - x_0) ||^2 per element, at the batch's own noise and times.
    """
    x_t = interpolate(batch.latent, batch.noise, batch.time)
    output = denoiser(x_t, batch.time, denoiser.prepare(batch.condition))
    error = output.velocity.float() - velocity_target(batch.latent, batch.noise).float()
    return error.square().flatten(1).mean(1)
