"""SIGKILL at random moments of `annotate` and `encode`, then the same command again: the bytes must be those of a run
that was never stopped.

    python benchmarks/kill_annotate.py               # 20 kill points per stage, about a minute
    python benchmarks/kill_annotate.py --points 5

Each point starts from the same folder, is killed once or twice at a moment drawn over the whole length of the stage,
and is then run to its end. Prints a table, writes benchmarks/out/kill_annotate.json, and fails if one byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from openmiro.annotate import annotate, encode
from openmiro.data.verify import verify
from openmiro.lab.scenes import LabSettings
from openmiro.lab.shards import synthesize

OUT = Path(__file__).parent / "out" / "kill_annotate.json"
RESOLUTION = 24


@dataclass(frozen=True)
class Point:
    """One kill point: when it was killed, what lay there then, and whether the end was the same."""

    stage: str
    seconds: float
    files_committed: int
    leftovers: int
    is_identical: bool


def tree_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def start(work: Callable[[], object]) -> int:
    """Runs `work` in a forked process, which saves importing everything again; returns its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def finish(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    _, status = os.waitpid(start(work), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("an uninterrupted run failed")
    return time.perf_counter() - began


def kill_after(work: Callable[[], object], seconds: float) -> None:
    child = start(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def try_stage(stage: str, before: Path, scratch: Path, work: Callable[[Path], object], points: int) -> list[Point]:
    """Kill points of one stage, which starts from a copy of `before`."""

    def fresh(name: str) -> Path:
        # The name has a fixed length and the same parent, so that relative paths in the header agree.
        folder = scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, folder)
        return folder

    reference = fresh("reference")
    length = finish(lambda: work(reference))
    expected = tree_digest(reference)
    found = []
    for number in range(points):
        draw = random.Random(f"{stage}/{number}")
        folder = fresh("killed")
        moment = draw.uniform(0, length)
        kill_after(lambda folder=folder: work(folder), moment)
        files = [p.name for p in folder.rglob("*") if p.is_file()] if folder.exists() else []
        if number % 4 == 3:  # killed again on the way back
            kill_after(lambda folder=folder: work(folder), draw.uniform(0, length))
        finish(lambda folder=folder: work(folder))
        same = tree_digest(folder) == expected and not verify(folder)
        committed = sum(name.endswith((".parquet.json", ".arrow.json")) for name in files)
        leftovers = sum(name.startswith(".tmp-") for name in files)
        found.append(Point(stage, round(moment, 4), committed, leftovers, same))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20, help="kill points per stage")
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shards = root / "shards"
        synthesize(shards, args.pairs, 0, LabSettings(resolution=RESOLUTION), pairs_per_shard=args.pairs // 6)

        def do_annotate(folder: Path) -> object:
            return annotate(shards, folder, ["lab", "classical"], num_workers=0)

        def do_encode(folder: Path) -> object:
            return encode(folder, "patch4x12", "words", RESOLUTION, num_workers=0)

        # One run in this very process, so that every forked one finds the models warm.
        annotated = root / "annotated"
        do_annotate(annotated)
        points = try_stage("annotate", root / "nothing", root, do_annotate, args.points)
        points += try_stage("encode", annotated, root, do_encode, args.points)
    show(points)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([asdict(p) for p in points], indent=2) + "\n", encoding="utf-8")
    return 0 if all(p.is_identical for p in points) else 1


def show(points: list[Point]) -> None:
    print(
        "| stage | kill points | killed at (s) | files committed then | with leftovers | byte-identical after rerun |"
    )
    print("|---|---|---|---|---|---|")
    for stage in dict.fromkeys(p.stage for p in points):
        mine = [p for p in points if p.stage == stage]
        times, files = [p.seconds for p in mine], [p.files_committed for p in mine]
        print(
            f"| {stage} | {len(mine)} | {min(times):.2f} to {max(times):.2f} | {min(files)} to {max(files)} |"
            f" {sum(p.leftovers > 0 for p in mine)} | {sum(p.is_identical for p in mine)} of {len(mine)} |"
        )


if __name__ == "__main__":
    sys.exit(main())
