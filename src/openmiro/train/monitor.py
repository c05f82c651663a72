"""Losses as they come: kept on the device, read and checked every few steps, written once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmiro.core.artifact import write_json
from openmiro.core.errors import NonFiniteLossError
from openmiro.core.log import RunLog
from openmiro.core.types import LatentBatch
from openmiro.train.distributed import Group

_SHOWN = 8


@dataclass(frozen=True)
class StepRecord:
    """What one step leaves behind; tensors stay on the device until they are read.

    Attributes:
        step: number of the step, from 1.
        losses: float32 [b] of this process's samples.
        gradient_norm: scalar, before clipping.
        learning_rate: factor of the base rates.
        batch: its samples, for the message about a loss that is not finite.
    """

    step: int
    losses: Tensor
    gradient_norm: Tensor
    learning_rate: float
    batch: LatentBatch


class Monitor:
    """Collects records and, at every `flush`, checks and writes them.

    Reading a number from an accelerator waits for it, so losses are read together. A loss that is not finite is
    therefore noticed at the next flush; checkpoints are saved after a flush only, so none ever holds its damage.
    """

    def __init__(self, run: Path, log: RunLog, group: Group, batch_size: int) -> None:
        self.run, self.log, self.group, self.batch_size = run, log, group, batch_size
        self.last_loss = float("nan")
        self._records: list[StepRecord] = []
        self._waited = 0.0
        self._since = time.perf_counter()

    def record(self, record: StepRecord, waited: float) -> None:
        """Takes one step's record and the seconds that it waited for data."""
        self._records.append(record)
        self._waited += waited

    def flush(self) -> None:
        """Checks and writes what was collected.

        Raises:
            NonFiniteLossError: a loss or a gradient is NaN or infinite; a crash report lies in the run folder.
        """
        if not self._records:
            return
        records, self._records = self._records, []
        losses = self.group.mean(torch.stack([r.losses.mean() for r in records]).double().cpu()).tolist()
        norms = torch.stack([r.gradient_norm for r in records]).double().cpu().tolist()
        for record, loss, norm in zip(records, losses, norms, strict=True):
            if not _is_finite(loss) or not _is_finite(norm):
                self._fail(record, loss, norm)
            values = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": record.learning_rate}
            self.log.metrics(record.step, record.step * self.batch_size, values)
        self.last_loss = sum(losses) / len(losses)
        self._write_timing(records)

    def pause(self) -> None:
        """Starts the clock anew, after work that is not training (samples, checkpoints)."""
        self._since = time.perf_counter()

    def _write_timing(self, records: list[StepRecord]) -> None:
        now = time.perf_counter()
        seconds = now - self._since
        values = {
            "train/images_per_second": len(records) * self.batch_size / max(seconds, 1e-9),
            "train/seconds": seconds,
            "train/seconds_waiting_for_data": self._waited,
        }
        step = records[-1].step
        self.log.timing(step, step * self.batch_size, values)
        self._since, self._waited = now, 0.0

    def _fail(self, record: StepRecord, loss: float, norm: float) -> None:
        losses, times = record.losses.float().cpu(), record.batch.time.float().cpu()
        mine = [
            {"key": key, "t": float(t), "loss": repr(float(value))}
            for key, t, value in zip(record.batch.keys, times, losses, strict=True)
            if not _is_finite(float(value))
        ]
        samples = [sample for share in self.group.gather(mine) for sample in share]
        report = self.run / f"crash-step-{record.step:06d}.json"
        if self.group.is_main:
            keys = list(record.batch.keys)
            write_json(report, {"step": record.step, "loss": repr(loss), "gradient_norm": repr(norm),
                                "samples": samples, "batch_of_first_process": keys})  # fmt: skip
            self.log.flush()
        raise NonFiniteLossError(_message(record.step, loss, norm, samples, report))


def _message(step: int, loss: float, norm: float, samples: list[dict[str, Any]], report: Path) -> str:
    if not samples:
        what = f"the gradient of step {step} is not finite (norm {norm}), though its losses are"
    else:
        shown = ", ".join(f"{s['key']} at t = {s['t']:.4f} (loss {s['loss']})" for s in samples[:_SHOWN])
        more = f" and {len(samples) - _SHOWN} more" if len(samples) > _SHOWN else ""
        what = f"the loss of step {step} is not finite: {shown}{more}"
    return (
        f"{what}. Nothing was saved after it; the report is {report}. Try a lower learning rate or precision=fp32, or"
        " look at those samples."
    )


def _is_finite(value: float) -> bool:
    return value - value == 0.0
