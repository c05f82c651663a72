import pytest
import torch

from openmiro.train import precision
from openmiro.train.precision import autocast, cpu_bf16_speedup, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_a_setting_is_taken_at_its_word(setting):
    assert resolve_precision(setting, CPU) == setting


@pytest.mark.parametrize(
    ("instructions", "speedup", "expected"), [(True, 2.0, "bf16"), (True, 0.9, "fp32"), (False, 2.0, "fp32")]
)
def test_auto_on_a_cpu_asks_for_instructions_and_speed(monkeypatch, instructions, speedup, expected):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: instructions)
    monkeypatch.setattr(precision, "cpu_bf16_speedup", lambda: speedup)
    assert resolve_precision("auto", CPU) == expected


def test_the_speedup_is_a_positive_number():
    assert 0 < cpu_bf16_speedup() < 1000


@pytest.mark.parametrize(("setting", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(setting, dtype):
    with autocast(setting, CPU):
        assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype == dtype
