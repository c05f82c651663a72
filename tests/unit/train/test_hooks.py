from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from openmiro.codecs.image import PixelCodec
from openmiro.codecs.text import WordEncoder
from openmiro.core.errors import ConfigError
from openmiro.core.log import read_metrics
from openmiro.train.hooks import contact_sheet, is_due
from openmiro.train.loop import train
from openmiro.train.recipe import load_recipe
from openmiro.train.source import RandomSource

TINY = (
    "images=32",
    "batch_size=4",
    "rewards=[colorfulness,contrast]",
    "sampling={default: {targets: {contrast: 1.0}, avoid: {contrast: 0.0}, guidance: reward, guidance_scale: 2.0}}",
    "model={kind: dit, patch: 4, width: 16, depth: 1, heads: 2}",
    "checkpoint.every_images=32",
    "precision=fp32",
    "threads=1",
)
SAMPLES = "samples={every_images: 12, prompts: [a dog, a cat, two dogs], rewards: [colorfulness], num_steps: 2}"


@dataclass(frozen=True)
class Pictures(RandomSource):
    """Random 16-pixel pictures, with the codec and the encoder that would have made them."""

    def origin(self):
        encoder = WordEncoder().fit(["a dog and a cat", "two dogs"])
        return super().origin()._replace(codec=PixelCodec(), text_encoder=encoder)


SOURCE = Pictures((3, 16, 16), ("colorfulness", "contrast"), max_text_tokens=32)


def run(folder, *overrides, source=SOURCE):
    train(load_recipe("lab-miro", [*TINY, *overrides]), folder, source=source)
    return read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize("guidance", ["reward", "text", "joint"])
def test_grids_and_their_rewards_appear_when_due_and_change_nothing_else(tmp_path, guidance):
    plain = run(tmp_path / "plain", "samples={}")
    drawn = run(tmp_path / "drawn", SAMPLES, f"sampling.default.guidance={guidance}")
    pictures = sorted((tmp_path / "drawn" / "samples").iterdir())
    assert [p.name for p in pictures] == [f"step-{s:06d}.png" for s in (3, 6, 8)]
    with Image.open(pictures[0]) as sheet:
        assert sheet.size == (16 * 2 + 2, 16 * 2 + 2)
    values = [line for line in drawn if "val/reward/colorfulness/mean" in line]
    assert [line["step"] for line in values] == [3, 6, 8]
    assert [line for line in drawn if line not in values] == plain
    assert [line["step"] for line in drawn] == sorted(line["step"] for line in drawn)


def test_the_same_run_draws_the_same_bytes(tmp_path):
    for name in "ab":
        run(tmp_path / name, SAMPLES)
    for path in (tmp_path / "a" / "samples").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "samples" / path.name).read_bytes()


def test_without_a_codec_it_says_what_to_set(tmp_path):
    with pytest.raises(ConfigError, match=r"samples\.every_images"):
        run(tmp_path, SAMPLES, source=RandomSource((3, 16, 16), ("colorfulness", "contrast"), max_text_tokens=32))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 100])
def test_due_once_per_interval_and_at_the_end(batch_size):
    num_steps = 1000 // batch_size
    due = [s for s in range(1, num_steps + 1) if is_due(s, 10, batch_size, num_steps)]
    images = np.array(due) * batch_size
    assert due[-1] == num_steps
    if batch_size <= 10:
        assert set(range(1, num_steps * batch_size // 10 + 1)) <= set(images // 10)
        assert len(due) <= num_steps * batch_size // 10 + 1
    assert not any(is_due(s, 0, batch_size, num_steps) for s in range(1, num_steps + 1))


@pytest.mark.parametrize(("num", "size"), [(1, (4, 3)), (2, (10, 3)), (3, (10, 8)), (5, (16, 8)), (9, (16, 13))])
def test_contact_sheet(num, size):
    sheet = contact_sheet([Image.new("RGB", (4, 3), (i, 0, 0)) for i in range(num)])
    assert sheet.size == size
    columns = (size[0] + 2) // 6
    for i in range(num):
        assert sheet.getpixel((i % columns * 6, i // columns * 5)) == (i, 0, 0)
