"""The stages as commands run them: open, plan, let an engine work, account for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmiro.annotate.engines import Engine, LocalEngine
from openmiro.annotate.fitting import ready_codec, ready_encoder
from openmiro.annotate.tasks import AnnotateTask, LatentTask, TaskReport, TextTask
from openmiro.core.errors import BudgetExceededError, DataError
from openmiro.core.types import ImageCodec, TextEncoder
from openmiro.data.accounting import DatasetReport, write_report
from openmiro.data.images import Limits
from openmiro.data.sources import Source, open_source
from openmiro.data.store import Dataset, check_name
from openmiro.rewards.catalog import expand_names, resolve_rewards

_MAX_COUNTED = 32


@dataclass(frozen=True)
class AnnotateReport:
    """What `annotate` did.

    Attributes:
        dataset: the dataset folder.
        accounting: what became of every row and score.
        tasks: one report per shard.
    """

    dataset: Path
    accounting: DatasetReport
    tasks: tuple[TaskReport, ...]

    def summary(self) -> str:
        """Text for people."""
        written, kept = (sum(getattr(t, name) for t in self.tasks) for name in ("files_written", "files_kept"))
        files = f"{self.dataset}: {written} files written, {kept} kept from before"
        return "\n".join([*self.accounting.lines(), files])


@dataclass(frozen=True)
class EncodeReport:
    """What `encode` did.

    Attributes:
        dataset: the dataset folder.
        codec: full name of the latents.
        encoder: name of the encoded text.
        latent_shape: (C, H, W).
        num_rows, num_ok: rows, and how many of them were encoded.
        tasks: one report per shard and stage.
    """

    dataset: Path
    codec: str
    encoder: str
    latent_shape: tuple[int, int, int]
    num_rows: int
    num_ok: int
    tasks: tuple[TaskReport, ...]

    def summary(self) -> str:
        """Text for people."""
        written, kept = (sum(getattr(t, name) for t in self.tasks) for name in ("files_written", "files_kept"))
        shape = " x ".join(map(str, self.latent_shape))
        return (
            f"{self.num_rows} rows = {self.num_ok} encoded + {self.num_rows - self.num_ok} rejected by annotate\n"
            f"latents {self.codec}: {shape}; text: {self.encoder}\n"
            f"{self.dataset}: {written} files written, {kept} kept from before"
        )


def annotate(
    source: Path | str,
    dataset_folder: Path | str,
    rewards: Sequence[str] = (),
    captions_table: Path | str | None = None,
    num_workers: int | None = None,
    max_bad_share: float = 0.05,
    limits: Limits | None = None,
    engine: Engine | None = None,
) -> AnnotateReport:
    """Reads every row of a source once, accounts for it, and scores it with every reward.

    Interrupted anywhere and run again, it goes on and ends with the same bytes. More rewards later add files.

    Args:
        source: a tar, a folder or pattern of tars, a folder of images, or a table.
        dataset_folder: made, or gone on with.
        rewards: names, sets and dotted paths of `rewards.catalog`.
        captions_table: CSV, Parquet or JSON Lines with synthetic captions by key.
        num_workers: processes; 0 works in this one; None is one per core.
        max_bad_share: share of rows that may be unusable. A shard that is truncated lost an unknown number of rows and
            passes only with 1.
        limits: what rows may have.
        engine: who runs the tasks, instead of this machine's processes.

    Raises:
        BudgetExceededError: too many rows are unusable; everything that could be done is on disk.
        DataError: the source has no usable rows, or a reward failed.
        ProvenanceError: the folder belongs to another source.
        UnknownNameError: an unknown reward.
    """
    limits = limits or Limits()
    names = tuple(expand_names(rewards))
    for reward in resolve_rewards(names):
        check_name("reward", reward.spec.name)
    opened = open_source(source, captions_table, limits)
    opened.check_captions()
    dataset = Dataset.create(dataset_folder, opened, limits)
    with dataset.writing():
        tasks = [AnnotateTask(dataset.folder, shard, names) for shard in dataset.shards]
        reports = (engine or LocalEngine(num_workers)).run(tasks, "annotating", _estimated_rows(opened))
        accounting = write_report(dataset)
    if not accounting.num_ok:
        raise DataError(f"{opened.path} is empty of usable rows: {accounting.lines()[0]}")
    _check_budget(dataset, accounting, max_bad_share)
    return AnnotateReport(dataset.folder, accounting, tuple(reports))


def encode(
    dataset_folder: Path | str,
    codec: ImageCodec | str = "patch4x12",
    text_encoder: TextEncoder | str = "words",
    resolution: int = 64,
    num_workers: int | None = None,
    engine: Engine | None = None,
) -> EncodeReport:
    """Turns pictures into latents and captions into tokens or features, once.

    A codec or encoder that learns from data is first fitted to this dataset, and saved beside what it makes.

    Args:
        dataset_folder: an annotated dataset.
        codec: an object, a name or a folder.
        text_encoder: an object, a name or a folder.
        resolution: side of the square pictures, which are cut from the center.
        num_workers: processes; 0 works in this one; None is one per core.
        engine: who runs the tasks, instead of this machine's processes.

    Raises:
        MissingFileError: the dataset, its rows or its source are missing; names the command.
        ConfigError: the codec cannot work at this resolution.
        DataError: no usable rows, or the codec or encoder failed.
    """
    dataset = Dataset.open(dataset_folder)
    counts = [dataset.rows_record(shard).counts for shard in dataset.shards]
    num_rows, num_ok = sum(sum(c.values()) for c in counts), sum(c.get("ok", 0) for c in counts)
    if not num_ok:
        raise DataError(f"the dataset {dataset.folder} has no usable rows; {dataset.report_path} says why")
    engine = engine or LocalEngine(num_workers)
    with dataset.writing():
        fitted = ready_codec(dataset, codec, resolution)
        encoder = ready_encoder(dataset, text_encoder)
        latents = [LatentTask(dataset.folder, shard, fitted.column, resolution) for shard in dataset.shards]
        texts = [TextTask(dataset.folder, shard, encoder.name) for shard in dataset.shards]
        reports = engine.run([*latents, *texts], "encoding", 2 * num_rows)  # pictures, then captions
    shape = fitted.codec.latent_shape(resolution)
    return EncodeReport(dataset.folder, fitted.column, encoder.name, shape, num_rows, num_ok, tuple(reports))


def _estimated_rows(source: Source) -> int:
    """For the progress bar: exact for few shards, else as if all were like the first."""
    counted = [sum(1 for _ in shard.row_keys()) for shard in source.shards[:_MAX_COUNTED]]
    return sum(counted) if len(source.shards) <= _MAX_COUNTED else counted[0] * len(source.shards)


def _check_budget(dataset: Dataset, accounting: DatasetReport, max_bad_share: float) -> None:
    ending = f"Everything else is done; {dataset.report_path} accounts for every row."
    if accounting.bad_share > max_bad_share:
        raise BudgetExceededError(
            f"{accounting.bad_share:.1%} of the rows cannot be used, more than the budget of {max_bad_share:.1%}:"
            f" {accounting.lines()[0]}. {ending} To accept this, raise --max-bad-share."
        )
    if accounting.notes and max_bad_share < 1:
        shard, notes = next(iter(sorted(accounting.notes.items())))
        raise BudgetExceededError(
            f"{len(accounting.notes)} shards are not whole, such as {shard} ({notes[0]}), so that an unknown number of"
            f" rows is lost. {ending} Fetch the shard again, or accept what there is with --max-bad-share 1."
        )
