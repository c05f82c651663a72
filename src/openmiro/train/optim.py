"""Optimizers and learning-rate schedules.

The learning rate is a function of images seen, so that batch size and number of devices do not change a recipe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from openmiro.core.config import Config
from openmiro.core.types import Denoiser


class ScheduleSettings(Config):
    """Learning rate as a function of images seen: a linear warm-up, a plateau, then a fall that ends with the run.

    Attributes:
        warmup_images: images until the peak.
        decay: shape of the fall; "constant" never falls.
        decay_share: share of the images after the warm-up that the fall takes; 1 falls from the peak on.
        final_factor: share of the peak at the end.
    """

    warmup_images: int = Field(default=0, ge=0)
    decay: Literal["constant", "linear", "cosine"] = "linear"
    decay_share: float = Field(default=1.0, gt=0, le=1)
    final_factor: float = Field(default=0.0, ge=0, le=1)


class OptimizerSettings(Config):
    """How weights follow gradients.

    Attributes:
        kind: "muon" (matrices inside blocks by Muon, the rest by AdamW) or "adamw".
        learning_rate: peak; of Muon's matrices where the kind is "muon". Muon's updates have root-mean-square size
            0.2, about that of AdamW's, so that rates of both kinds are comparable.
        adamw_learning_rate: peak for what Muon leaves to AdamW; without effect under "adamw".
        weight_decay: decoupled, for matrices only.
        betas, epsilon: of AdamW.
        momentum: of Muon (Nesterov).
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    adamw_learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)


def learning_rate_factor(images_seen: int, settings: ScheduleSettings, total_images: int) -> float:
    """Factor in [0, 1] of the base learning rate for the step that starts at `images_seen`."""
    warmup = settings.warmup_images
    if images_seen < warmup:
        # A first step at rate 0 would move nothing.
        return max(images_seen, 1) / warmup
    if settings.decay == "constant":
        return 1.0
    length = max((total_images - warmup) * settings.decay_share, 1.0)
    left = min(max((total_images - images_seen) / length, 0.0), 1.0)
    shape = left if settings.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return settings.final_factor + (1.0 - settings.final_factor) * shape


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def build_optimizer(denoiser: Denoiser, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of all trainable parameters; groups carry `base_lr`.

    Its `state_dict()` holds tensors and plain numbers only.
    """
    assert isinstance(denoiser, nn.Module)
    parameters = [p for p in denoiser.parameters() if p.requires_grad]
    matrices = [p for p in parameters if hasattr(p, "muon_parts")] if settings.kind == "muon" else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    groups = list(_groups(matrices, rest, settings))
    return MuonAdamW(groups, settings)


def _groups(matrices: list[nn.Parameter], rest: list[nn.Parameter], settings: OptimizerSettings) -> Iterator[dict]:
    by_kind: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for p in matrices:
        by_kind["muon", True].append(p)
    for p in rest:
        by_kind["adamw", p.ndim >= 2].append(p)
    remainder = settings.adamw_learning_rate if settings.kind == "muon" else settings.learning_rate
    rates = {"muon": settings.learning_rate, "adamw": remainder}
    for (kind, decays), params in by_kind.items():
        decay = settings.weight_decay if decays else 0.0
        yield {"params": params, "kind": kind, "lr": rates[kind], "base_lr": rates[kind], "weight_decay": decay}


class MuonAdamW(torch.optim.Optimizer):
    """Muon for groups of kind "muon", AdamW for groups of kind "adamw".

    Muon (Jordan et al. 2024) replaces the momentum of a matrix by its nearest semi-orthogonal matrix. Equal shapes
    are stacked, so that the Newton-Schulz iteration is a few batched products whatever the depth; fused maps are
    split into their parts first. Updates are scaled to root-mean-square 0.2 (Liu et al. 2025, "Muon is scalable").
    """

    def __init__(self, groups: Iterable[dict], settings: OptimizerSettings) -> None:
        super().__init__(groups, {"lr": settings.learning_rate, "weight_decay": 0.0})
        self.settings = settings

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._muon if group["kind"] == "muon" else self._adamw)(params, group)

    def _adamw(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if p not in self.state:
                self.state[p] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self.state[p] for p in params]
        beta1, beta2 = self.settings.betas
        torch._fused_adamw_(  # pyright: ignore[reportCallIssue]
            params,
            _gradients(params),
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in _advance(states)],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=self.settings.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if p not in self.state:
                self.state[p] = {"momentum": torch.zeros_like(p)}
        momenta = [self.state[p]["momentum"] for p in params]
        gradients = _gradients(params)
        torch._foreach_lerp_(momenta, gradients, 1.0 - self.settings.momentum)
        directions = torch._foreach_lerp(gradients, momenta, self.settings.momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
        for p, update in zip(params, _orthogonal(params, directions), strict=True):
            p.add_(update, alpha=-group["lr"])


def _gradients(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _advance(states: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    torch._foreach_add_([s["step"] for s in states], 1.0)
    return states


def _orthogonal(params: list[Tensor], directions: Iterable[Tensor]) -> list[Tensor]:
    """Orthogonalized directions with root-mean-square 0.2, one per parameter."""
    stacks: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    for i, (p, direction) in enumerate(zip(params, directions, strict=True)):
        parts = direction.unflatten(0, (getattr(p, "muon_parts", 1), -1))
        stacks[tuple(parts.shape[1:])].append((i, parts))
    updates: list[Tensor] = [torch.empty(0)] * len(params)
    for shape, members in stacks.items():
        result = newton_schulz(torch.cat([parts for _, parts in members]))
        result = result * (0.2 * max(shape) ** 0.5)
        for (i, _), part in zip(members, result.split([m.shape[0] for _, m in members]), strict=True):
            updates[i] = part.flatten(0, 1)
    return updates


def newton_schulz(matrices: Tensor, num_iterations: int = 5) -> Tensor:
    """Approximate polar factors U V^T of a stack of matrices [n, rows, columns]; singular values come near 1.

    The quintic iteration of Jordan et al. 2024 in bf16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.float().flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]).bfloat16()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(num_iterations):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
