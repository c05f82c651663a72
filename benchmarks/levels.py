"""Level tables of a large score column: seconds and peak memory against NumPy's exact quantiles, equality asserted.

    python benchmarks/levels.py                      # 100 million values, about a minute and 1 GB
    python benchmarks/levels.py --num-values 1000000

Each measurement is a process of its own that starts from a file of float32 scores, so reading is part of the time and
the peak of its memory is its own. One thread; seconds are processor seconds, since other work on the machine disturbs
those least (wall-clock seconds are in the JSON). Prints a table and writes benchmarks/out/levels.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openmiro.core.types import RewardSpec
from openmiro.rewards.levels import ScoreColumn, fit_level_table

BINS = 64
CHUNK = 1 << 20
OUT = Path(__file__).parent / "out" / "levels.json"


def normal(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    return rng.standard_normal(num, np.float32)


def probability(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-2 * rng.standard_normal(num, np.float32)))).astype(np.float32)


def saturated(rng: np.random.Generator, num: int) -> NDArray[np.float32]:
    """Three quarters of the scores are exactly 1."""
    return np.where(rng.random(num, np.float32) < 0.75, np.float32(1), rng.random(num, np.float32))


COLUMNS = {"normal": normal, "probability": probability, "75 % ties": saturated}


def fit_with_openmiro(path: Path) -> list[float | None]:
    def chunks() -> Iterator[NDArray[np.float32]]:
        with path.open("rb") as file:
            while len(values := np.fromfile(file, np.float32, CHUNK)):
                yield values

    spec = RewardSpec(name="benchmark", unit="points", needs_text=False, version="1")
    return list(fit_level_table(ScoreColumn(spec, chunks), BINS).edges)


def quantiles_with_numpy(path: Path) -> list[float | None]:
    values = np.fromfile(path, np.float32)
    return np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf").tolist()


def edges_by_sorting(path: Path) -> list[float | None]:
    """The definition of the edges, by sorting everything: what the first must equal."""
    values = np.sort(np.fromfile(path, np.float32))
    num, edges = len(values), []
    for b in range(1, BINS):
        quantile = values[-(-num * b // BINS) - 1]
        below, through = (int(np.searchsorted(values, quantile, side)) for side in ("left", "right"))
        reached = BINS * (below + through) >= 2 * num * b
        edges.append(float(quantile if reached else np.nextafter(quantile, np.float32(np.inf))))
    return edges


METHODS = {
    "openmiro": fit_with_openmiro,
    "numpy.quantile": quantiles_with_numpy,
    "numpy.sort": edges_by_sorting,
}


def measure(method: str, path: Path) -> None:
    """Runs in its own process: prints seconds, peak MB above what the imports took, and the result."""
    before = _peak_mb()
    start, start_wall = time.process_time(), time.perf_counter()
    result = METHODS[method](path)
    seconds, wall = time.process_time() - start, time.perf_counter() - start_wall
    print(json.dumps({"seconds": seconds, "wall": wall, "peak_mb": _peak_mb() - before, "result": result}))


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # where getrusage would report the peak of the parent process too, which is larger
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run(method: str, path: Path, repeats: int) -> dict:
    command = [sys.executable, __file__, "--measure", method, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    runs = [
        json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return min(runs, key=lambda r: r["seconds"])


def same(a: list, b: list) -> bool:
    return np.array_equal(np.array(a, np.float32), np.array(b, np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-values", type=int, default=100_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts, since other work only slows down")
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.f32"
        for name, make in COLUMNS.items():
            make(np.random.default_rng(0), options.num_values).tofile(path)
            found = {method: run(method, path, options.repeats) for method in METHODS}
            if not same(found["openmiro"]["result"], found["numpy.sort"]["result"]):
                sys.exit(f"{name}: edges differ from those by sorting")
            above = np.nextafter(np.array(found["numpy.quantile"]["result"], np.float32), np.float32(np.inf))
            edges = np.array(found["openmiro"]["result"], np.float32)
            if not np.isin(edges, [*found["numpy.quantile"]["result"], *above]).all():
                sys.exit(f"{name}: an edge is neither numpy's quantile nor the next float")
            rows += [
                {"column": name, "method": m, **{k: f[k] for k in ("seconds", "wall", "peak_mb")}}
                for m, f in found.items()
            ]
    report(rows, options.num_values)


def report(rows: list[dict], num_values: int) -> None:
    print(f"| {num_values:,} scores | method | CPU seconds | M values/s | peak MB | time vs openmiro |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        ours = next(r for r in rows if r["column"] == row["column"] and r["method"] == "openmiro")
        speed, ratio = num_values / row["seconds"] / 1e6, row["seconds"] / ours["seconds"]
        print(
            f"| {row['column']} | {row['method']} | {row['seconds']:.2f} | {speed:.0f} | {row['peak_mb']:.0f} |"
            f" {ratio:.2f} |"
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"num_values": num_values, "num_bins": BINS, "rows": rows}, indent=2) + "\n")
    print(f"equal to the definition by sorting in every column; wrote {OUT}")


if __name__ == "__main__":
    main()
