"""Which arithmetic a run uses. Weights, their averages and the loss are always fp32; bf16 means autocast."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
WORTHWHILE_SPEEDUP = 1.2
_SIZE, _REPEATS = 384, 5


def resolve_precision(setting: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """What "auto" means on this device: bf16 where the hardware multiplies it faster, else fp32."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() and cpu_bf16_speedup() > WORTHWHILE_SPEEDUP else "fp32"
    return "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which the forward pass runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 instructions (AVX512-BF16 or AMX); elsewhere bf16 is emulated and slow."""
    # These probes carry an underscore: where a torch release lacks them, the answer is the safe one.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


@cache
def cpu_bf16_speedup() -> float:
    """How much faster bf16 matrix products run than fp32 ones on this CPU, measured in a few milliseconds."""
    seconds = {dtype: _best_time(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _best_time(dtype: torch.dtype) -> float:
    a = torch.ones(_SIZE, _SIZE, dtype=dtype)
    torch.mm(a, a)
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return best
