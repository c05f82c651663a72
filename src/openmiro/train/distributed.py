"""The processes of one run: plain DDP under torchrun, or a single process, behind one small interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from openmiro.core.errors import InterruptedTrainingError, NonFiniteLossError


@dataclass(frozen=True)
class Group:
    """This process among the processes of the run. With one process every method is the identity."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a global batch that this process works on."""
        size = batch_size // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a CPU tensor over processes."""
        if self.world_size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world_size

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self.world_size == 1:
            return flag
        votes = torch.tensor([float(flag)])
        dist.all_reduce(votes)
        return bool(votes.item() > 0)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def process_group() -> Iterator[Group]:
    """Joins the group that torchrun announces in the environment; alone where there is none.

    Small tensors on the CPU go through gloo also where gradients go through NCCL, so that control messages never wait
    for the accelerator.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        group = Group(dist.get_rank(), dist.get_world_size(), local_rank)
        try:
            yield group
        except (InterruptedTrainingError, NonFiniteLossError):
            group.barrier()  # these are raised by every process at the same step
            raise
        group.barrier()  # nobody leaves while another still listens to it
    finally:
        dist.destroy_process_group()
