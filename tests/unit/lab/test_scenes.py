import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmiro.core.errors import ConfigError
from openmiro.lab.scenes import SHAPES, LabSettings, Scene, Shadow, Shape, Tag, blur, render_array, sample_scene

settings_of = st.builds(
    LabSettings, num_shapes=st.integers(2, 4), num_colors=st.integers(2, 6), max_objects=st.integers(2, 3)
)


@given(st.integers(0, 2**32), settings_of, st.sampled_from(Tag))
def test_objects_neither_overlap_nor_leave_the_picture(seed, settings, tag):
    scene = sample_scene(np.random.default_rng(seed), settings, tag, clean=True)
    for i, a in enumerate(scene.objects):
        assert a.kind in settings.shapes
        assert a.color in settings.colors
        assert a.size / 2 <= min(a.x, a.y, 1 - a.x, 1 - a.y)
        for b in scene.objects[i + 1 :]:
            # More than a pixel of a 24 px picture stays free between two objects.
            assert max(abs(a.x - b.x), abs(a.y - b.y)) - (a.size + b.size) / 2 > 1 / 24


@given(st.integers(0, 2**32), settings_of)
def test_number_of_objects_follows_the_kind(seed, settings):
    rng = np.random.default_rng(seed)
    for tag in (Tag.SINGLE_OBJECT, Tag.COLORS):
        assert len(sample_scene(rng, settings, tag).objects) == 1
    for tag in (Tag.TWO_OBJECT, Tag.POSITION, Tag.COLOR_ATTRIBUTION):
        a, b = sample_scene(rng, settings, tag).objects
        assert a.kind != b.kind
        assert a.color != b.color
    counted = sample_scene(rng, settings, Tag.COUNTING).objects
    assert 1 <= len(counted) <= settings.max_objects
    assert len({(o.kind, o.color) for o in counted}) == 1


def test_a_scene_is_a_function_of_its_generator_and_a_picture_of_its_scene():
    scenes = [sample_scene(np.random.default_rng(7), LabSettings(degraded=1)) for _ in range(2)]
    assert scenes[0] == scenes[1]
    np.testing.assert_array_equal(render_array(scenes[0]), render_array(scenes[1]))


def test_shares_of_defects_and_shadows():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, LabSettings()) for _ in range(4000)]
    # Four standard errors of a share among 4,000 are at most 0.032.
    degraded = np.mean([_degraded(s) for s in scenes])
    assert degraded == pytest.approx(0.4, abs=0.04)
    proper = np.mean([s.shadow is not None and s.shadow.proper for s in scenes])
    assert proper == pytest.approx(0.3, abs=0.032)
    assert np.mean([s.shadow is None for s in scenes]) == pytest.approx(0.35, abs=0.032)


def _degraded(scene: Scene) -> bool:
    q = scene.quality
    crop = any(min(o.x, o.y, 1 - o.x, 1 - o.y) < o.size / 2 for o in scene.objects) or any(
        len(scene.objects) == 2 and min(abs(o.x - 0.5), abs(o.y - 0.5)) > 0.071 for o in scene.objects
    )
    return q.blur > 0.36 or q.noise > 2.6 or q.saturation < 0.87 or q.contrast < 0.91 or bool(q.specks) or crop


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_fills_the_width_it_states_and_shows_its_color(kind):
    scene = Scene(Tag.COLORS, (Shape(kind, "red", 0.5, 0.5, 0.5),), "single", "white")
    pixels = render_array(scene, 64).astype(int)
    colored = pixels[..., 0] - pixels[..., 1] > 90
    height, width = np.ptp(np.flatnonzero(colored.any(1))) + 1, np.ptp(np.flatnonzero(colored.any(0))) + 1
    expected = 32 * (0.92 if kind == "square" else 1.0)
    assert abs(width - expected) <= 2
    assert abs(height - expected) <= 3
    assert colored[32, 32] == (kind != "ring")


def test_one_scene_looks_alike_at_every_resolution():
    scene = sample_scene(np.random.default_rng(3), LabSettings(), Tag.COLOR_ATTRIBUTION, clean=True)
    small, large = render_array(scene, 24).astype(float), render_array(scene, 96).astype(float)
    assert np.abs(large.reshape(24, 4, 24, 4, 3).mean((1, 3)) - small).mean() < 2.0


def test_a_shadow_darkens_its_own_side_only():
    shape = Shape("square", "blue", 0.5, 0.5, 0.4)
    plain = render_array(Scene(Tag.COLORS, (shape,), "single", "white"), 48).astype(int)
    shaded = render_array(Scene(Tag.COLORS, (shape,), "single", "white", shadow=Shadow(0.1, 0.1, 0.5)), 48).astype(int)
    darker = (plain - shaded).sum(-1)
    assert darker[36, 36] > 150  # lower right of the square
    assert (darker[:12] == 0).all()
    assert (darker[:, :12] == 0).all()


def test_blur_keeps_constants_and_spreads_a_point():
    flat = np.full((9, 9, 3), 7.0, dtype=np.float32)
    np.testing.assert_allclose(blur(flat, 1.3), flat, rtol=1e-5)
    point = np.zeros((21, 21, 1), dtype=np.float32)
    point[10, 10] = 1
    spread = blur(point, 1.5)[..., 0]
    variance = (spread.sum(0) * (np.arange(21) - 10) ** 2).sum() / spread.sum()
    assert variance == pytest.approx(1.5**2, rel=0.02)


@pytest.mark.parametrize("wrong", [{"resolution": 4}, {"num_shapes": 9}, {"max_objects": 4}, {"degraded": 1.5}])
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LabSettings.parse(wrong)


def test_a_world_of_single_objects_has_no_pairs():
    assert LabSettings(max_objects=1).tags == (Tag.SINGLE_OBJECT, Tag.COUNTING, Tag.COLORS)
