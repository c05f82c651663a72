import pytest
import torch

from openmiro.core.types import Condition, DenoiserOutput, LatentBatch
from openmiro.models.dit import DiT, DiTConfig
from openmiro.train.loss import flow_matching_loss

CONFIG = DiTConfig(latent_shape=(4, 4, 4), num_rewards=2, vocabulary_size=9, width=16, depth=1, heads=2)


def make_batch(batch: int) -> LatentBatch:
    generator = torch.Generator().manual_seed(0)
    latent, noise = torch.randn(2, batch, 4, 4, 4, generator=generator)
    ids = torch.randint(0, 9, (batch, 3), generator=generator)
    level = torch.rand(batch, 2, generator=generator)
    condition = Condition(ids, torch.ones_like(ids, dtype=torch.bool), level, level > 0.3)
    return LatentBatch(latent, condition, noise, torch.rand(batch, generator=generator), ("",) * batch)


class Fixed:
    """Answers with a velocity given beforehand and remembers what it was asked."""

    latent_shape = (4, 4, 4)

    def __init__(self, velocity):
        self.velocity = velocity

    def prepare(self, condition):
        return condition

    def __call__(self, x_t, t, prepared, carry=None):
        self.asked = (x_t, t, prepared)
        return DenoiserOutput(self.velocity)


def test_the_true_velocity_has_no_loss():
    batch = make_batch(3)
    denoiser = Fixed(batch.noise - batch.latent)
    assert flow_matching_loss(denoiser, batch).tolist() == [0, 0, 0]
    x_t, t, condition = denoiser.asked
    torch.testing.assert_close(x_t, batch.latent + t.view(-1, 1, 1, 1) * (batch.noise - batch.latent))
    assert t is batch.time
    assert condition is batch.condition


def test_loss_is_the_mean_square_of_each_sample():
    batch = make_batch(2)
    error = torch.stack([torch.full((4, 4, 4), 2.0), torch.full((4, 4, 4), -3.0)])
    loss = flow_matching_loss(Fixed(batch.noise - batch.latent + error), batch)
    torch.testing.assert_close(loss, torch.tensor([4.0, 9.0]))


def test_a_new_model_has_the_loss_of_predicting_zero():
    torch.manual_seed(0)
    batch = make_batch(64)
    loss = flow_matching_loss(DiT(CONFIG), batch)
    assert loss.shape == (64,)
    # E (eps - x0)^2 = 2 for unit variances.
    assert loss.mean().item() == pytest.approx(2.0, rel=0.1)


def test_loss_is_fp32_under_autocast():
    batch = make_batch(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert flow_matching_loss(DiT(CONFIG), batch).dtype == torch.float32


def test_a_batch_can_be_cut_for_accumulation():
    torch.manual_seed(0)
    batch, model = make_batch(6), DiT(CONFIG)
    whole = flow_matching_loss(model, batch)
    parts = torch.cat([flow_matching_loss(model, batch[:2]), flow_matching_loss(model, batch[2:])])
    torch.testing.assert_close(parts, whole)
