import pytest
import torch
from torch import nn

from openmiro.train.ema import Ema
from openmiro.train.recipe import EmaSettings


def scalar(value):
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.parametrize("batch_size", [1, 10, 50])
def test_after_one_half_life_half_the_way_is_gone_whatever_the_batch_size(batch_size):
    module = scalar(0.0)
    ema = Ema(module, EmaSettings(half_life_images=100, ramp_up=None))
    nn.init.constant_(module.weight, 1.0)
    for images in range(batch_size, 101, batch_size):
        ema.update(images, batch_size)
    assert ema.state_dict()["weight"].item() == pytest.approx(0.5, abs=1e-5)


def test_average_of_a_known_sequence():
    module = scalar(4.0)
    ema = Ema(module, EmaSettings(half_life_images=1, ramp_up=None))
    for value in (0.0, 2.0):
        nn.init.constant_(module.weight, value)
        ema.update(1, 1)
    assert ema.state_dict()["weight"].item() == pytest.approx(4 / 4 + 0 / 4 + 2 / 2)


def test_ramp_up_shortens_the_half_life_of_a_young_average():
    ema = Ema(scalar(0.0), EmaSettings(half_life_images=1000, ramp_up=0.1))
    assert ema.decay(images_seen=100, num_images=10) == pytest.approx(0.5)
    assert ema.decay(images_seen=10_000, num_images=1000) == pytest.approx(0.5)
    assert ema.decay(images_seen=10**9, num_images=1000) == pytest.approx(0.5)


def test_applied_puts_the_average_in_and_the_weights_back_bit_for_bit():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(module, EmaSettings(half_life_images=10))
    for p in module.parameters():
        nn.init.normal_(p)
    ema.update(5, 5)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    averaged = {k: v.clone() for k, v in ema.state_dict().items()}
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert all(torch.equal(v, averaged[k]) for k, v in module.state_dict().items())
        raise RuntimeError("inside")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not torch.equal(before["0.weight"], averaged["0.weight"])


def test_state_goes_around():
    module = scalar(1.0)
    ema = Ema(module, EmaSettings(half_life_images=3))
    nn.init.constant_(module.weight, 0.3)
    ema.update(7, 7)
    saved = {k: v.clone() for k, v in ema.state_dict().items()}
    other = Ema(scalar(9.0), EmaSettings(half_life_images=3))
    other.load_state_dict(saved)
    assert torch.equal(other.state_dict()["weight"], saved["weight"])


def test_the_average_is_fp32_and_buffers_are_the_modules_own():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, EmaSettings())
    module.running_mean.fill_(5.0)
    assert ema.state_dict()["weight"].dtype == torch.float32
    assert ema.state_dict()["running_mean"].tolist() == [5.0, 5.0]
