import xml.etree.ElementTree as ET

import numpy as np
import pytest

from openmiro.evaluate.intervals import Estimate
from openmiro.report import figures, style
from openmiro.report.dataset_page import rank_correlations, read_content
from openmiro.report.figures import Curve, Distribution, IntervalSeries

WEIRD = "a <b> & $c$"


def parse(chart):
    """The drawing as XML, which fails where a name was not escaped."""
    return ET.fromstring(chart.svg)


def texts(chart):
    return " ".join("".join(element.itertext()) for element in parse(chart).iter("{http://www.w3.org/2000/svg}text"))


def test_names_from_data_are_drawn_as_they_are(noisy_values):
    chart = figures.distribution_chart(Distribution(WEIRD, WEIRD, "image", noisy_values, [-1.0, 0.0, 1.0]))
    assert texts(chart).count(WEIRD) == 2
    assert "500 scores" in chart.alt


def test_colors_follow_the_page(noisy_values):
    chart = figures.distribution_chart(Distribution("r", "u", "image", noisy_values, [0.0]))
    assert f"var(--c1, {style.MIRO})" in chart.svg
    assert f"var(--c2, {style.BASELINE})" in chart.svg


@pytest.mark.parametrize("values", [[], [1.5], [2.0] * 30])
def test_distributions_without_spread(values):
    parse(figures.distribution_chart(Distribution("r", "u", "image", np.array(values, np.float32))))


def test_identifiers_differ_between_drawings(noisy_values):
    charts = [figures.distribution_chart(Distribution(n, "u", "image", noisy_values)) for n in ("a", "b")]
    ids = [{e.get("id") for e in parse(c).iter() if e.get("id")} for c in charts]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_correlation_names_the_strongest_pair():
    matrix = np.array([[1, 0.2, -0.9], [0.2, 1, np.nan], [-0.9, np.nan, 1]])
    chart = figures.correlation_chart(["a", "b", "c"], matrix)
    assert "Strongest: c and a, -0.90" in chart.alt
    assert texts(chart).count("0.20") == 2


def test_correlations_of_monotone_columns_are_exact():
    x = np.array([3, 1, 2, np.nan, 5], np.float32)
    matrix = rank_correlations([x, np.exp(x), -x, np.ones(5, np.float32)])
    np.testing.assert_allclose(matrix[0, :3], [1, 1, -1])
    assert np.isnan(matrix[0, 3])


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
    assert content.counts == {"ok": 60}
    assert content.names == ["aesthetic", "sharpness", "alignment"]
    assert [d.column for d in content.distributions] == ["image", "image", "original", "synthetic"]
    assert all(len(d.values) == 60 for d in content.distributions)
    assert len(content.examples) == 5
    assert set(content.examples[0].scores) == {"aesthetic", "sharpness", "alignment"}
