"""Random latents per second: from columns, and from tars of .npy members as other projects keep them.

    python benchmarks/reading.py                     # about a minute
    python benchmarks/reading.py --rows 2000

All in one run, one process, one thread, files in the page cache: it measures formats, not disks. Every method gives
float32 batches of 64 in the same random order, and they are compared value by value first. "training batch" is all of
`TrainingData.batch`: row, caption choice, latent, tokens with mask, levels of 4 rewards and keys. Prints a table and
writes benchmarks/out/reading.json.
"""

from __future__ import annotations

import argparse
import io
import json
import mmap
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from openmiro.annotate import annotate, encode, fit_dataset_levels
from openmiro.data.columns import Latents, Provenance, read_latents, write_latents
from openmiro.data.dataset import TrainingData
from openmiro.data.sampler import PositionSampler
from openmiro.data.status import CellStatus
from openmiro.data.tars import scan_tar
from openmiro.lab.scenes import LabSettings
from openmiro.lab.shards import synthesize

OUT = Path(__file__).parent / "out" / "reading.json"
BATCH = 64
SHAPES = {"lab, 12 x 6 x 6": (12, 6, 6), "256 px, 4 x 32 x 32": (4, 32, 32)}
Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    latents: str
    method: str
    samples_per_second: float
    megabytes: float


def write_columns(path: Path, mean: NDArray[np.float16]) -> Read:
    keys = [f"{i:09}" for i in range(len(mean))]
    everything = Latents(mean, None, np.ones(len(mean), bool))
    write_latents(path, keys, everything, [CellStatus.OK] * len(mean), Provenance({}, {}))
    mapped = read_latents(path).mean
    return lambda rows: mapped[rows].astype(np.float32)


def write_tar(path: Path, mean: NDArray[np.float16]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, latent in enumerate(mean):
            content = io.BytesIO()
            np.save(content, latent)
            info = tarfile.TarInfo(f"{i:09}.npy")
            info.size = len(content.getvalue())
            tar.addfile(info, io.BytesIO(content.getvalue()))


def indexed_tar(path: Path) -> Read:
    """Random access by an index of members, as wids does."""
    members = scan_tar(path).members
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        parts = (mapped[members[i].offset : members[i].offset + members[i].size] for i in rows)
        return np.stack([np.load(io.BytesIO(part), allow_pickle=False) for part in parts]).astype(np.float32)

    return read


def streamed_tar(path: Path) -> Iterator[NDArray[np.float32]]:
    """From front to end with the standard library, as a stream reader does; not random."""
    batch = []
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            batch.append(np.load(io.BytesIO(file.read()), allow_pickle=False))
            if len(batch) == BATCH:
                yield np.stack(batch).astype(np.float32)
                batch = []


def rate(read: Callable[[NDArray[np.int64]], object], num_rows: int, seconds: float) -> float:
    """Samples per second, the better of two passes of random batches."""
    sampler = PositionSampler(num_rows, 0, BATCH)
    best = 0.0
    for _ in range(2):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            read(sampler.rows(sampler.positions(done)))
            done += 1
        best = max(best, done * BATCH / (time.perf_counter() - began))
    return best


def compare_formats(folder: Path, num_rows: int, seconds: float) -> list[Result]:
    results = []
    for label, shape in SHAPES.items():
        mean = np.random.default_rng(0).standard_normal((num_rows, *shape), np.float32).astype(np.float16)
        columns_path, tar_path = folder / f"{shape[0]}.arrow", folder / f"{shape[0]}.tar"
        columns = write_columns(columns_path, mean)
        write_tar(tar_path, mean)
        tar = indexed_tar(tar_path)
        rows = PositionSampler(num_rows, 1).rows(np.arange(200))
        assert np.array_equal(columns(rows), tar(rows))
        sizes = {p: p.stat().st_size / 1e6 for p in (columns_path, tar_path)}
        results.append(Result(label, "columns, random", rate(columns, num_rows, seconds), sizes[columns_path]))
        results.append(Result(label, "tar with an index, random", rate(tar, num_rows, seconds), sizes[tar_path]))
        began = time.perf_counter()
        count = sum(len(batch) for batch in streamed_tar(tar_path))
        speed = count / (time.perf_counter() - began)
        results.append(Result(label, "tar as a stream, in order", speed, sizes[tar_path]))
    return results


def whole_batches(folder: Path, seconds: float) -> Result:
    synthesize(folder / "shards", 1000, 0, LabSettings(resolution=24), pairs_per_shard=250)
    annotate(folder / "shards", folder / "d", ["classical"], num_workers=0)
    encode(folder / "d", "patch4x12", "words", 24, num_workers=0)
    levels = fit_dataset_levels(folder / "d")
    data = TrainingData.open(folder / "d", levels.rewards, levels.transform)
    size = sum(p.stat().st_size for p in (folder / "d").rglob("*.arrow")) / 1e6
    speed = rate(lambda rows: data.batch(rows, 0, 0.5), 1000, seconds)
    return Result("lab, 12 x 6 x 6", "columns, random: training batch", speed, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        results = compare_formats(Path(name), args.rows, args.seconds)
        results.insert(1, whole_batches(Path(name), args.seconds))
    print("| latents | method | samples/s | MB |\n|---|---|---|---|")
    for r in results:
        print(f"| {r.latents} | {r.method} | {r.samples_per_second:,.0f} | {r.megabytes:.0f} |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
