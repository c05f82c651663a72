import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import flip_byte
from tests.toys import has_no_score, number_in

from openmiro.codecs import load_text_encoder
from openmiro.core.artifact import record_path
from openmiro.core.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    MissingFileError,
    ProvenanceError,
    UnknownNameError,
)
from openmiro.core.seeds import normal
from openmiro.core.types import CaptionKind, RewardSet
from openmiro.data.columns import Latents, Provenance, read_latents, write_latents
from openmiro.data.dataset import TrainingData
from openmiro.data.status import CellStatus
from openmiro.data.store import Dataset

NAMES = ("text_number", "short_text_number", "width")


def raw_as_level(name, raw):
    """Levels that keep the score readable: scores are below 4096, so this is exact."""
    return (raw / 4096).astype(np.float32), np.isfinite(raw)


def specs(folder, names=NAMES):
    return RewardSet(specs=tuple(Dataset.open(folder).reward_spec(name) for name in names))


def open_data(folder, **options):
    return TrainingData.open(folder, specs(folder), raw_as_level, **options)


@pytest.fixture(scope="module")
def data(made):
    return open_data(made)


@pytest.fixture(scope="module")
def words(data):
    return load_text_encoder(data.encoder_folder).settings.vocabulary


def read_back(words, ids, mask):
    return " ".join(words[i - 2] for i in ids[mask].tolist())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_caption_never_travels_with_the_scores_of_the_other(data, words, seed, start, share):
    batch = data.batch(np.arange(start, start + 40), seed, share)
    for k, key in enumerate(batch.keys):
        i = int(key)
        text = read_back(words, batch.text[k], batch.text_mask[k])
        number = number_in(text)
        assert number in (i, 1000 + i)  # the text belongs to the row
        assert bool(batch.is_synthetic[k]) == (number >= 1000)
        if share == 0:
            assert number < 1000
        if share == 1 and i % 3 != 2:
            assert number >= 1000
        expected = [number, number + 1000 if number >= 1000 and i % 3 == 1 else number, 24]
        known = [not has_no_score(number), not has_no_score(expected[1]), True]
        assert batch.known[k].tolist() == known
        assert (batch.level[k] * 4096).tolist() == [e if is_known else 0 for e, is_known in zip(expected, known)]


def test_only_usable_rows_are_served(data):
    keys = {int(k) for k in data.batch(np.arange(len(data)), 0).keys}
    assert keys == {i for i in range(60) if i % 11 != 10}


def test_share_of_synthetic_captions(data):
    found = data.batch(np.arange(20_000), 1, 0.25).is_synthetic.float().mean()
    assert found == pytest.approx(0.25 * 2 / 3, abs=0.015)  # a third of the rows has none


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.integers(0, 99))
def test_a_position_does_not_depend_on_its_batch(data, positions, seed):
    together = data.batch(positions, seed, 0.5)
    for k, position in enumerate(positions):
        alone = data.batch([position], seed, 0.5)
        assert alone.keys[0] == together.keys[k]
        for name in ("latent", "text", "text_mask", "level", "known", "is_synthetic"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[k])


def test_latents_are_those_of_the_row(data, made):
    stored = [read_latents(Dataset.open(made).latents_path("patch4x12-8", f"{s:05}")) for s in range(3)]
    batch = data.batch(np.arange(54), 5)
    for latent, key in zip(batch.latent.numpy(), batch.keys):
        assert np.array_equal(latent, stored[int(key) // 20].mean[int(key) % 20].astype(np.float32))


def test_latents_with_spread_are_drawn_anew_every_epoch(folder):
    dataset = Dataset.open(folder)
    for shard in dataset.shards:
        path = dataset.latents_path("patch4x12-8", shard)
        old = read_latents(path)
        spread = np.full_like(old.mean, 0.5)
        status = [CellStatus.OK if p else CellStatus.ROW_REJECTED for p in old.present]
        made = Provenance({"resolution": 8}, {"rows": dataset.rows_record(shard).sha256})
        write_latents(
            path, [row.key for row in dataset.rows(shard).rows], Latents(old.mean, spread, old.present), status, made
        )
    data = open_data(folder)
    plain = open_data(folder)
    first, second = data.batch([0], 3), data.batch([len(data) * 4], 3)
    sampler = data.sampler(3)
    row = int(sampler.rows([0])[0])
    later = next(p for p in range(len(data), 2 * len(data)) if int(sampler.rows([p])[0]) == row)
    assert not torch.equal(first.latent, data.batch([later], 3).latent)
    assert not torch.equal(first.latent, second.latent)
    assert torch.equal(first.latent, plain.batch([0], 3).latent)
    noise = normal(3, "latent", [0], data.latent_shape)
    assert torch.allclose((first.latent - noise * 0.5 - mean_of(data, row)).abs().max(), torch.tensor(0.0), atol=1e-6)


def mean_of(data, row):
    shard, inner = data._usable.shard[row], data._usable.row[row]
    return torch.from_numpy(data._latents_of(int(shard)).mean[inner].astype(np.float32))


def test_shapes_and_names(data):
    assert data.latent_shape == (12, 2, 2)
    assert (data.text_dim, data.max_tokens) == (None, 32)
    batch = data.batch(range(5), 0)
    assert batch.text.dtype == torch.int64
    assert batch.latent.dtype == batch.level.dtype == torch.float32
    assert batch.text.shape == batch.text_mask.shape == (5, 32)
    assert (batch.text[~batch.text_mask] == 0).all()


def test_travels_to_other_processes_without_its_maps(data):
    data.batch(range(50), 0)
    copy = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 20_000
    ours, theirs = data.batch(range(9), 1, 0.5), copy.batch(range(9), 1, 0.5)
    assert ours.keys == theirs.keys
    assert torch.equal(ours.latent, theirs.latent)


def test_no_rewards(made):
    batch = TrainingData.open(made, RewardSet(), raw_as_level).batch(range(3), 0)
    assert batch.level.shape == (3, 0)


@pytest.mark.parametrize("column", ["rows", "scores/width", "scores/text_number/synthetic", "latents", "text"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "unfinished"])
def test_damage_is_found_when_opening_and_named(folder, column, harm):
    path = sorted(p for p in (folder / column).rglob("*") if p.suffix in (".parquet", ".arrow"))[1]
    if harm == "flip":
        flip_byte(path)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:-8])
    elif harm == "delete":
        path.unlink()
    else:
        record_path(path).unlink()
    with pytest.raises((DamagedFileError, MissingFileError), match=re.escape(str(path.name))) as caught:
        open_data(folder)
    stage = "openmiro encode" if column in ("latents", "text") else "openmiro annotate"
    assert stage in str(caught.value) or "run again" in str(caught.value)


def test_columns_of_other_rows_are_refused(folder):
    dataset = Dataset.open(folder)
    shutil.copy(dataset.rows_path("00001"), dataset.rows_path("00000"))
    shutil.copy(record_path(dataset.rows_path("00001")), record_path(dataset.rows_path("00000")))
    with pytest.raises(ProvenanceError, match="other rows"):
        open_data(folder)


def test_stages_that_were_not_run_are_named(folder):
    with pytest.raises(UnknownNameError, match="unknown reward"):
        Dataset.open(folder).reward_spec("wdth")
    shutil.rmtree(folder / "latents")
    with pytest.raises(MissingFileError, match="openmiro encode"):
        open_data(folder)


def test_another_version_of_a_reward_is_refused(folder):
    spec = Dataset.open(folder).reward_spec("width").model_copy(update={"version": "9"})
    with pytest.raises(ProvenanceError, match="version 9"):
        TrainingData.open(folder, RewardSet(specs=(spec,)), raw_as_level)


def test_choice_of_columns(folder):
    assert open_data(folder, codec="patch4x12").codec == open_data(folder, codec="patch4x12-8").codec == "patch4x12-8"
    with pytest.raises(UnknownNameError):
        open_data(folder, codec="patch4x13")
    shutil.copytree(folder / "latents" / "patch4x12-8", folder / "latents" / "patch4x12-16")
    with pytest.raises(ConfigError, match="Say which one"):
        open_data(folder)
    assert open_data(folder, codec="patch4x12-8").codec == "patch4x12-8"


def test_no_usable_rows(folder):
    dataset = Dataset.open(folder)
    from dataclasses import replace

    from openmiro.data.columns import write_rows
    from openmiro.data.status import RowStatus

    for shard in dataset.shards:
        rows = [replace(row, status=RowStatus.IMAGE_UNREADABLE) for row in dataset.rows(shard).rows]
        write_rows(dataset.rows_path(shard), rows, [], Provenance({}, {}))
        made = Provenance({"max_tokens": 32}, {"rows": dataset.rows_record(shard).sha256})
        empty = Latents(np.zeros((len(rows), 1, 1, 1), np.float16), None, np.zeros(len(rows), bool))
        keys, status = [row.key for row in rows], [CellStatus.ROW_REJECTED] * len(rows)
        write_latents(dataset.latents_path("patch4x12-8", shard), keys, empty, status, made)
        for kind in CaptionKind:
            path = dataset.text_path("words32", kind, shard)
            from openmiro.data.columns import TextColumn, write_text

            no_text = TextColumn(np.empty(0, np.int32), np.zeros(len(rows) + 1, np.int64), np.zeros(len(rows), bool))
            write_text(path, keys, no_text, status, made)
    with pytest.raises(DataError, match="no usable rows"):
        TrainingData.open(folder, RewardSet(), raw_as_level)
