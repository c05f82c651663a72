import pytest
import torch

from openmiro.core.artifact import read_json
from openmiro.core.errors import MissingFileError
from openmiro.lab import contrastive
from openmiro.lab.contrastive import TrainingLog, TrainingSettings, load_towers, train, word_ids
from openmiro.lab.scenes import LabSettings
from openmiro.lab.shards import sample_pair

TINY = TrainingSettings(num_pairs=64, num_steps=4, batch_size=32, num_judged=60)


def test_shipped_weights_are_small_and_vouched_for():
    weights = contrastive.ASSETS / contrastive.WEIGHTS_NAME
    assert weights.stat().st_size < 400_000
    log = TrainingLog.parse(read_json(weights.with_suffix(".json")))
    assert log.settings == TrainingSettings()
    # The recorded figures come out again, here on fewer pairs: three standard errors of a share.
    again = contrastive.choice_accuracies(load_towers(), seed=5, num_pairs=400)
    assert again["other_scene"] > log.other_scene - 0.03
    assert abs(again["wrong_relation"] - log.wrong_relation) < 0.12
    assert abs(again["wrong_binding"] - log.wrong_binding) < 0.12


def test_training_is_repeatable_and_writes_weights_and_log(tmp_path):
    logs = [train(TINY, tmp_path / name) for name in ("a", "b")]
    assert logs[0] == logs[1]
    assert len({(tmp_path / n / contrastive.WEIGHTS_NAME).read_bytes() for n in ("a", "b")}) == 1
    load_towers.cache_clear()
    texts = load_towers(tmp_path / "a").text(["a red ring", "two blue crosses"])
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(2, dtype=torch.float64))
    load_towers.cache_clear()


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(MissingFileError, match=r"python -m openmiro\.lab\.contrastive"):
        load_towers(tmp_path)


def test_every_caption_word_is_known_and_others_are_passed_over():
    world = LabSettings(max_objects=3)
    for i in range(300):
        captions = sample_pair(i, 2, world).captions
        for text in (captions.original, captions.synthetic):
            assert (word_ids([text]) > 0).sum() == len(text.split())
    torch.testing.assert_close(word_ids(["a shiny red ring!"]), word_ids(["a red ring"]))
    assert word_ids(["ring " * 50]).shape == (1, contrastive.MAX_WORDS)
    assert (word_ids([""]) == 0).all()
