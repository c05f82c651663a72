"""Images per second of one lab training step (loss, backward, clip, Muon, EMA), eager and compiled, fp32 and bf16.

    python benchmarks/lab_train.py                       # one thread, about three minutes, most of it compiling
    python benchmarks/lab_train.py --threads 2 --no-compile

All variants live in one process and take turns step by step, so that whatever else the machine does hits them alike;
the median step counts. Prints a table and writes benchmarks/out/lab_train.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from openmiro.core.types import Condition, LatentBatch
from openmiro.models.dit import DiT, DiTConfig
from openmiro.train.loss import flow_matching_loss
from openmiro.train.optim import OptimizerSettings, build_optimizer

OUT = Path(__file__).parent / "out" / "lab_train.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--side", type=int, default=6, help="latent rows and columns")
    parser.add_argument("--tokens", type=int, default=9, help="words of the longest caption in a batch")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def make_batch(args: argparse.Namespace, num_rewards: int) -> LatentBatch:
    """Random latents and captions of the lab's shapes."""
    size = args.batch_size
    latent, noise = torch.randn(2, size, args.channels, args.side, args.side)
    ids = torch.randint(1, 60, (size, args.tokens))
    mask = torch.arange(args.tokens) < torch.randint(2, args.tokens + 1, (size, 1))
    level = torch.rand(size, num_rewards)
    return LatentBatch(latent, Condition(ids, mask, level, level > 0.2), noise, torch.rand(size), ("",) * size)


def make_step(args: argparse.Namespace, num_rewards: int, precision: str, compiled: bool) -> Callable[[], None]:
    """One training step on a fixed batch."""
    torch.manual_seed(0)
    config = DiTConfig(
        latent_shape=(args.channels, args.side, args.side),
        num_rewards=num_rewards,
        vocabulary_size=60,
        width=args.width,
        depth=args.depth,
        heads=args.width // 32,
    )
    model, batch = DiT(config), make_batch(args, num_rewards)
    optimizer = build_optimizer(model, OptimizerSettings(kind="muon"))
    parameters: list[Tensor] = list(model.parameters())
    average = [p.detach().clone() for p in parameters]
    loss_of = torch.compile(flow_matching_loss) if compiled else flow_matching_loss

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(model, batch).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.01)

    return step


def timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    modes = ["eager"] if args.no_compile else ["eager", "compiled"]
    variants = [(r, p, m) for r in (0, 7) for p in ("fp32", "bf16") for m in modes]
    steps = {v: make_step(args, v[0], v[1], v[2] == "compiled") for v in variants}
    # The first step compiles; the second warms caches.
    first = {v: timed(step) for v, step in steps.items()}
    for step in steps.values():
        step()
    seconds: dict[tuple[int, str, str], list[float]] = {v: [] for v in variants}
    for _ in range(args.steps):
        for variant, step in steps.items():
            seconds[variant].append(timed(step))
    rows = []
    for (num_rewards, precision, mode), values in seconds.items():
        median = statistics.median(values)
        rows.append(
            {
                "rewards": num_rewards,
                "precision": precision,
                "mode": mode,
                "milliseconds": round(median * 1e3, 1),
                "images_per_second": round(args.batch_size / median),
                "best_images_per_second": round(args.batch_size / min(values)),
                "first_step_seconds": round(first[num_rewards, precision, mode], 1),
            }
        )
    latent = f"{args.channels} x {args.side} x {args.side}"
    print(f"batch {args.batch_size}, threads {args.threads}, width {args.width}, depth {args.depth}, latent {latent}")
    print("| rewards | precision | mode | ms a step (median) | images/s | best images/s | first step, s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"torch": torch.__version__, "settings": vars(args), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
