from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openmiro.lab.captions import claim_of_tag, full_claim
from openmiro.lab.detector import detect, label_regions, oklab
from openmiro.lab.scenes import (
    COLORS,
    SHAPES,
    LabSettings,
    Quality,
    Scene,
    Shape,
    Tag,
    render,
    render_array,
    sample_scene,
)
from openmiro.lab.verify import Spec, verify


@pytest.mark.parametrize("tag", Tag)
@pytest.mark.parametrize("resolution", [24, 32])
def test_verifier_agrees_with_clean_renders(tag, resolution):
    rng = np.random.default_rng(11)
    settings = LabSettings(max_objects=3)
    scenes = [sample_scene(rng, settings, tag, clean=True) for _ in range(150)]
    agreed = 0
    for scene in scenes:
        image = render(scene, resolution)
        everything = Spec(Tag.COUNTING, full_claim(scene))
        agreed += verify(image, Spec(tag, claim_of_tag(scene))) and verify(image, everything)
    assert agreed / len(scenes) >= 0.97


def test_verifier_mostly_survives_the_defects_of_the_web():
    rng = np.random.default_rng(12)
    scenes = [sample_scene(rng, LabSettings(degraded=1)) for _ in range(300)]
    agreed = [verify(render(s), Spec(Tag.COUNTING, full_claim(s))) for s in scenes]
    assert np.mean(agreed) > 0.93


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("color", COLORS)
def test_place_size_and_probabilities_of_one_object(kind, color):
    scene = Scene(Tag.COLORS, (Shape(kind, color, 0.4, 0.6, 0.5),), "single", "gray")
    (found,) = detect(render_array(scene))
    assert (found.shape, found.color) == (kind, color)
    assert found.x == pytest.approx(0.4, abs=0.03)
    assert found.y == pytest.approx(0.6, abs=0.03)
    assert found.width == pytest.approx(0.5, abs=0.07)
    assert found.confidence > 0.8
    for probabilities, name, names in (
        (found.shape_probabilities, kind, SHAPES),
        (found.color_probabilities, color, tuple(COLORS)),
    ):
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert probabilities[names.index(name)] > 0.8


@pytest.mark.parametrize("defect", [{"blur": 7.0}, {"saturation": 0.15}, {"contrast": 0.12}])
def test_confidence_falls_with_defects(defect):
    plain = Scene(Tag.COLORS, (Shape("cross", "blue", 0.5, 0.5, 0.5),), "single", "white")
    (clear,) = detect(render_array(plain))
    assert all(
        d.confidence < 0.8 * clear.confidence for d in detect(render_array(replace(plain, quality=Quality(**defect))))
    )


def test_nothing_is_found_where_nothing_is():
    rng = np.random.default_rng(0)
    flat = [np.full((24, 24, 3), v, dtype=np.uint8) for v in (0, 90, 255)]
    gray_noise = np.repeat(rng.integers(0, 256, (24, 24, 1)), 3, axis=2).astype(np.uint8)
    for pixels in (*flat, gray_noise):
        assert detect(pixels) == []
    noises = rng.integers(0, 256, (50, 24, 24, 3), dtype=np.uint8)
    assert np.mean([max((d.confidence for d in detect(n)), default=0) for n in noises]) < 0.1


@given(st.integers(0, 2**32))
def test_mirroring_the_picture_mirrors_what_is_found(seed):
    scene = sample_scene(np.random.default_rng(seed), LabSettings(), clean=True)
    pixels = render_array(scene)
    plain, mirrored = detect(pixels), detect(np.ascontiguousarray(pixels[:, ::-1]))
    assert sorted((d.shape, d.color, round(d.x, 4)) for d in plain) == sorted(
        (d.shape, d.color, round(1 - d.x, 4)) for d in mirrored
    )


def test_large_pictures_are_judged_as_small_ones():
    scene = sample_scene(np.random.default_rng(1), LabSettings(), Tag.COLOR_ATTRIBUTION, clean=True)
    names = [sorted((d.shape, d.color) for d in detect(render_array(scene, r))) for r in (24, 64, 256)]
    assert names[0] == names[1] == names[2]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3))))
def test_any_picture_can_be_looked_at(pixels):
    for found in detect(pixels):
        assert 0 <= found.confidence <= 1
        assert 0 <= found.x <= 1
        assert 0 <= found.y <= 1


@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_regions_equal_those_of_a_flood_fill(values):
    labels, num = label_regions(values)
    expected = _flood_fill(values)
    assert num == expected.max()
    np.testing.assert_array_equal(labels > 0, values > 0)
    # The same partition under some renaming: pairs of labels match one to one.
    assert len(set(zip(labels.ravel().tolist(), expected.ravel().tolist()))) == len(np.unique(expected))


def _flood_fill(values):
    labels = np.zeros_like(values)
    for start in zip(*np.nonzero(values)):
        if labels[start]:
            continue
        labels[start] = labels.max() + 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= near[0] < values.shape[0] and 0 <= near[1] < values.shape[1]
                if inside and not labels[near] and values[near] == values[start]:
                    labels[near] = labels[start]
                    stack.append(near)
    return labels


def test_oklab_of_known_colors():
    # Ottosson (2020): white is (1, 0, 0); sRGB red is about (0.628, 0.225, 0.126).
    values = oklab(np.array([[255, 255, 255], [255, 0, 0], [0, 0, 0]], dtype=np.uint8))
    np.testing.assert_allclose(values, [[1, 0, 0], [0.628, 0.225, 0.126], [0, 0, 0]], atol=1e-3)
