import math

import numpy as np
import pytest
from PIL import Image

from openmiro.core.errors import DataError
from openmiro.core.seeds import numpy_generator
from openmiro.evaluate.geneval import Verdict, evaluate_geneval
from openmiro.evaluate.intervals import wilson
from openmiro.lab.captions import claim_of_tag
from openmiro.lab.prompts import Prompt, prompt_set
from openmiro.lab.scenes import LabSettings, Tag, blur, render, sample_scene
from openmiro.lab.verify import Spec


def perfect_painter(num_per_tag: int) -> tuple[list[Image.Image], list[Prompt]]:
    """Pictures that show exactly what their prompts ask for."""
    images, prompts = [], []
    for tag in Tag:
        for i in range(num_per_tag):
            scene = sample_scene(numpy_generator(0, tag, i), LabSettings(), tag, clean=True)
            images.append(render(scene))
            prompts.append(Prompt("", Spec(tag, claim_of_tag(scene))))
    return images, prompts


def test_a_perfect_painter_passes_and_an_empty_canvas_fails():
    images, prompts = perfect_painter(20)
    result = evaluate_geneval(images, prompts)
    assert list(result.tags) == list(Tag)
    assert all(count.successes / count.trials >= 0.97 for count in result.tags.values())
    assert result.overall.value >= 0.97
    assert result.requested_color == (20, 20)  # the prompts of the tag "colors"
    empty = evaluate_geneval([Image.new("RGB", (24, 24), (150, 150, 150))] * len(prompts), prompts)
    assert empty.overall.value == 0
    assert empty.overall.high < 0.1
    assert empty.requested_color.successes == 0


def test_pictures_of_other_prompts_rarely_pass():
    images, prompts = perfect_painter(20)
    rng = np.random.default_rng(0)
    result = evaluate_geneval([images[i] for i in rng.permutation(len(images))], prompts)
    assert result.overall.value < 0.3
    assert result.by_tag[Tag.COLOR_ATTRIBUTION].value < 0.15


def test_counts_shares_and_their_mean():
    prompts = prompt_set(4)[:8]  # four of single_object, four of two_object
    answers = iter([True, True, True, False, True, False, False, False])

    def judge(image, prompt):
        return Verdict(next(answers), color=None)

    result = evaluate_geneval([Image.new("RGB", (24, 24))] * 8, prompts, judge)
    assert dict(result.tags) == {Tag.SINGLE_OBJECT: (3, 4), Tag.TWO_OBJECT: (1, 4)}
    assert result.by_tag[Tag.SINGLE_OBJECT] == wilson(3, 4)
    assert result.overall.value == 0.5
    assert result.overall.low < 0.5 < result.overall.high
    assert [v.correct for v in result.verdicts] == [True, True, True, False, True, False, False, False]
    assert math.isnan(result.requested_color.share.value)


@pytest.mark.parametrize(("num_images", "num_prompts"), [(0, 0), (2, 3), (1, 0)])
def test_pictures_and_prompts_must_match(num_images, num_prompts):
    with pytest.raises(DataError, match=f"{num_images} pictures, {num_prompts} prompts"):
        evaluate_geneval([Image.new("RGB", (24, 24))] * num_images, prompt_set(3)[:num_prompts])


@pytest.mark.parametrize("grain", [0.7, 1.5, 2.5, 4.0])
def test_colored_noise_of_any_grain_does_not_pass(grain):
    prompts = prompt_set(30)
    rng = np.random.default_rng(2)
    images = []
    for _ in prompts:
        noise = blur(rng.normal(size=(24, 24, 3)).astype(np.float32), grain)
        images.append(Image.fromarray(np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)))
    result = evaluate_geneval(images, prompts)
    assert all(estimate.value <= 0.1 for estimate in result.by_tag.values())
