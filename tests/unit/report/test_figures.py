import xml.etree.ElementTree as ET

import numpy as np
import pytest

from openmiro.data.stats import dataset_stats, reward_stats
from openmiro.evaluate.intervals import Estimate
from openmiro.report import figures, style
from openmiro.report.dataset_page import read_content
from openmiro.report.figures import Curve, IntervalSeries

WEIRD = "a <b> & $c$"


def parse(chart):
    """The drawing as XML, which fails where a name was not escaped."""
    return ET.fromstring(chart.svg)


def texts(chart):
    return " ".join("".join(element.itertext()) for element in parse(chart).iter("{http://www.w3.org/2000/svg}text"))


def test_names_from_data_are_drawn_as_they_are(noisy_values):
    chart = figures.distribution_chart(reward_stats(WEIRD, "image", WEIRD, noisy_values), [-1.0, 0.0, 1.0])
    assert texts(chart).count(WEIRD) == 2
    assert "500 scores" in chart.alt


def test_colors_follow_the_page(noisy_values):
    chart = figures.distribution_chart(reward_stats("r", "image", "u", noisy_values), [0.0])
    assert f"var(--c1, {style.MIRO})" in chart.svg
    assert f"var(--c2, {style.BASELINE})" in chart.svg


@pytest.mark.parametrize("values", [[], [1.5], [2.0] * 30])
def test_distributions_without_spread(values):
    parse(figures.distribution_chart(reward_stats("r", "image", "u", np.array(values, np.float32))))


def test_identifiers_differ_between_drawings(noisy_values):
    charts = [figures.distribution_chart(reward_stats(n, "image", "u", noisy_values)) for n in ("a", "b")]
    ids = [{e.get("id") for e in parse(c).iter() if e.get("id")} for c in charts]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_correlation_names_the_strongest_pair():
    matrix = np.array([[1, 0.2, -0.9], [0.2, 1, np.nan], [-0.9, np.nan, 1]])
    chart = figures.correlation_chart(["a", "b", "c"], matrix)
    assert "Strongest: c and a, -0.90" in chart.alt
    assert texts(chart).count("0.20") == 2


def test_running_mean_keeps_a_line():
    line = np.linspace(0, 1, 400)
    np.testing.assert_allclose(figures.smoothed(line)[10:-10], line[10:-10], atol=1e-12)


def test_loss_chart_says_where_curves_end():
    chart = figures.loss_chart([Curve("one", range(50), [2.0] * 50), Curve("two", range(50), [1.0] * 50)])
    assert "one ends at 2.000; two ends at 1.000" in chart.alt
    parse(chart)


def test_intervals_and_times_say_their_numbers():
    estimates = [Estimate(0.5, 0.4, 0.6), Estimate(0.25, 0.2, 0.3)]
    chart = figures.interval_chart("t", ["g", "h"], [IntervalSeries(WEIRD, estimates, style.MIRO)], "name", "unit")
    assert f"h: {WEIRD} 0.25" in chart.alt
    parse(chart)
    assert "0.250 [0.200, 0.300]" in figures.rows_chart("t", "u", ["a", "b"], estimates, [style.MIRO] * 2).alt
    assert "75 s in all" in figures.time_chart({"one": 50.0, "two": 25.0}).alt
    strip = figures.strip_chart("r", "u", [0, 1], [1.0, 2.0], estimates, "c")
    assert "0: 0.5, 1: 0.25" in strip.alt


def test_content_of_a_dataset(dataset):
    content = read_content(dataset, num_examples=5)
    assert content.names == ["aesthetic", "sharpness", "alignment"]
    assert [s.column for s in content.stats.rewards] == ["image", "original", "synthetic", "image"]
    assert len(content.examples) == 5
    assert set(content.examples[0].scores) == {"aesthetic", "sharpness", "alignment"}


def test_stats_are_drawn_into_files(dataset, tmp_path):
    written = figures.draw_dataset_stats(dataset_stats(dataset), tmp_path / "stats")
    assert sorted(p.name for p in written) == [
        "aesthetic-image.svg",
        "alignment-original.svg",
        "alignment-synthetic.svg",
        "correlation.svg",
        "sharpness-image.svg",
    ]
    assert all(ET.fromstring(p.read_bytes()).tag.endswith("svg") for p in written)


def test_names_cannot_become_paths():
    assert figures.slug("../a/b c") == "---a-b-c"
