"""Kills a training run with SIGKILL again and again, and compares what it ends with to a run that never stopped.

    python benchmarks/kill_train.py [--kills 20] [--workers 0,2] [--out benchmarks/out/kill_train.json]

Each round starts the very same command, waits for a random moment (or for the middle of writing a checkpoint), and
kills the process. In the end the per-step losses and every tensor must be the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SETTINGS = (
    "images=960",
    "batch_size=8",
    "sampling={}",
    "samples={}",
    "model={kind: dit, patch: 2, width: 32, depth: 1, heads: 2}",
    "checkpoint={every_images: 48, keep: 3}",
    "data.synthetic_share=0.5",
    "schedule={warmup_images: 16}",
    "log.every_steps=3",
    "precision=fp32",
    "threads=1",
)
"""120 steps with a checkpoint every 6, so that many kills fall into the writing of one."""


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        moment: what the process was doing: "step", "save" or "start".
        steps_logged: lines of metrics.jsonl at that moment.
        checkpoint: the newest checkpoint that it left.
        workers: data workers of the killed process.
    """

    moment: str
    steps_logged: int
    checkpoint: str
    workers: int


def command(run: Path, dataset: Path, *overrides: str) -> list[str]:
    """The training command."""
    base = [sys.executable, "-m", "openmiro.cli.main", "train", "lab-miro", "--data", str(dataset), "--out", str(run)]
    return [*base, *SETTINGS, *overrides]


def train_to_the_end(run: Path, dataset: Path, *overrides: str) -> None:
    """Runs the command without disturbing it."""
    done = subprocess.run(command(run, dataset, *overrides), capture_output=True, text=True, env=_environment())
    if done.returncode != 0:
        raise SystemExit(f"training failed:\n{done.stdout}\n{done.stderr}")


def train_and_kill(run: Path, dataset: Path, workers: int, chance: random.Random) -> Kill | None:
    """Starts the command and kills it at a random moment; None where it finished first."""
    before = _num_lines(run)
    moment = chance.choice(["step", "step", "save", "start"])
    process = subprocess.Popen(
        command(run, dataset, f"num_data_workers={workers}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    try:
        _wait(process, _trigger(run, moment, before, chance))
        if process.poll() is not None:
            return None
    finally:
        # The whole session: a data worker must not outlive the test either.
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()
    latest = run / "latest"
    return Kill(moment, _num_lines(run), latest.read_text().strip() if latest.exists() else "-", workers)


def same_result(run: Path, other: Path) -> list[str]:
    """Names of files that differ: metrics.jsonl, and the last checkpoint's tensors."""
    files = ["metrics.jsonl", "latest"]
    last = (other / "latest").read_text().strip()
    files += [f"{last}/{name}.safetensors" for name in ("denoiser", "ema", "optimizer")]
    return [f for f in files if not (run / f).exists() or (run / f).read_bytes() != (other / f).read_bytes()]


def make_dataset(folder: Path) -> Path:
    """A small lab dataset, through the commands themselves."""
    main = [sys.executable, "-m", "openmiro.cli.main"]
    shards, dataset = folder / "shards", folder / "dataset"
    for arguments in (
        ["data", "synth", shards, "--pairs", "96", "--pairs-per-shard", "48", "--workers", "0"],
        ["annotate", shards, "--out", dataset, "--rewards", "lab", "--workers", "0"],
        ["levels", "fit", dataset],
        ["encode", dataset, "--resolution", "24", "--workers", "0"],
    ):
        subprocess.run([*main, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, env=_environment())
    return dataset


def _trigger(run: Path, moment: str, before: int, chance: random.Random) -> Callable[[], bool]:
    if moment == "save":
        return lambda: any((run / "checkpoints").glob(".tmp-*"))
    if moment == "start":
        until = time.monotonic() + chance.uniform(0.5, 4.0)
        return lambda: time.monotonic() > until
    goal = before + chance.randint(3, 15)
    return lambda: _num_lines(run) >= goal


def _wait(process: subprocess.Popen, reached: Callable[[], bool]) -> None:
    while process.poll() is None and not reached():
        time.sleep(0.001)


def _num_lines(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def kill_repeatedly(
    run: Path, dataset: Path, num_kills: int, workers: Sequence[int], seed: int, kills_per_run: int = 7
) -> list[Kill]:
    """Kills `num_kills` times; a run that ends, or has been killed `kills_per_run` times, is finished and checked
    against `run`'s neighbor `whole`, and a new one begins.

    Raises:
        SystemExit: a result differs.
    """
    chance, kills, whole = random.Random(seed), [], run.with_name("whole")
    if not (whole / "latest").exists():
        train_to_the_end(whole, dataset)
    while len(kills) < num_kills:
        shutil.rmtree(run, ignore_errors=True)
        for _ in range(min(kills_per_run, num_kills - len(kills))):
            kill = train_and_kill(run, dataset, chance.choice(list(workers)), chance)
            if kill is None:
                break
            kills.append(kill)
        train_to_the_end(run, dataset)
        if differing := same_result(run, whole):
            raise SystemExit(f"after {len(kills)} kills these files differ: {', '.join(differing)}\n{kills}")
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill a training run again and again; it must end with the same bytes."
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", default="0,0,2", help="data workers to choose from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dataset", type=Path, help="a lab dataset; default: a small one is made")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/kill_train.json"))
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = options.dataset or make_dataset(folder)
        workers = [int(w) for w in options.workers.split(",")]
        kills = kill_repeatedly(folder / "run", dataset, options.kills, workers, options.seed)
    print(f"{'kill':>4}  {'moment':<6}  {'steps logged':>12}  {'workers':>7}  newest checkpoint")
    for number, kill in enumerate(kills, start=1):
        print(f"{number:>4}  {kill.moment:<6}  {kill.steps_logged:>12}  {kill.workers:>7}  {kill.checkpoint}")
    seconds = time.monotonic() - begun
    print(f"{len(kills)} kills, every run ended with the bytes of the one that never stopped ({seconds:.0f} s)")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"kills": [asdict(k) for k in kills], "identical": True, "seconds": round(seconds, 1)}
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
