import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from tests.unit.report.conftest import HOSTILE

from openmiro.core.errors import MissingFileError
from openmiro.report import write_report
from openmiro.report.blocks import Code, Gallery, Matrix, Page, Section, Table, Text, Tile, Verdict, Verdicts
from openmiro.report.page import render_page
from openmiro.report.pictures import data_uri, enlarge
from openmiro.report.quickstart_page import write_quickstart_report

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Checker(HTMLParser):
    """Collects what a page loads and says, and whether its tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.open, self.loads, self.tags, self.ids, self.without_alt, self.text = [], [], [], [], 0, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.loads += [values[k] for k in ("src", "href", "xlink:href", "data", "srcset") if values.get(k)]
        self.without_alt += tag == "img" and not values.get("alt")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def assert_self_contained(html):
    page = Checker(html)
    assert page.open == []
    assert "script" not in page.tags
    assert page.without_alt == 0
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.loads), page.loads
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    assert len(page.ids) == len(set(page.ids))
    return page


def page_with(*blocks):
    return render_page(Page("Title", "Subtitle", [Section("one", "One", blocks)]))


def test_every_kind_of_text_is_escaped():
    tile = Tile(data_uri(Image.new("RGB", (4, 4))), HOSTILE, HOSTILE, [HOSTILE])
    blocks = [
        Text(HOSTILE),
        Verdicts([Verdict(HOSTILE, None, HOSTILE)]),
        Table([HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE),
        Gallery([tile], HOSTILE),
        Matrix([HOSTILE], [(HOSTILE, [tile])], HOSTILE),
        Code(HOSTILE, HOSTILE),
    ]
    html = render_page(Page(HOSTILE, HOSTILE, [Section("one", HOSTILE, blocks, HOSTILE)] * 1, [(HOSTILE, HOSTILE)]))
    page = assert_self_contained(html)
    assert html.count("<script") == 0
    assert "".join(page.text).count(HOSTILE) >= 14


@pytest.mark.parametrize(("holds", "answer"), [(True, "yes"), (False, "no"), (None, "undecided")])
def test_verdict_says_its_answer(holds, answer):
    assert f'<span class="answer">{answer}</span>' in page_with(Verdicts([Verdict("c", holds, "e")]))


def test_small_pictures_keep_square_pixels():
    image = Image.new("RGB", (24, 24))
    image.putpixel((0, 0), (255, 0, 0))
    large = enlarge(image)
    assert large.size == (96, 96)
    assert large.crop((0, 0, 4, 4)).getcolors() == [(16, (255, 0, 0))]
    assert large.getpixel((4, 0)) == (0, 0, 0)
    assert enlarge(Image.new("RGB", (300, 150))).size == (96, 48)


def test_quickstart_report_is_one_complete_file(results, tmp_path):
    html = write_quickstart_report(results, tmp_path / "report.html").read_text(encoding="utf-8")
    page = assert_self_contained(html)
    text = " ".join("".join(page.text).split())
    headings = ["Same prompts, same seeds", "One reward at a time", "Baseline and MIRO on one budget", "Loss curves"]
    headings += ["Steering the alignment reward alone", "Dataset pictures", "Scores and levels", "Where the time went"]
    assert [h for h in headings if h not in text] == []
    assert HOSTILE in "".join(page.text)
    assert {p.name for p in tmp_path.iterdir()} == {"report.html"}


def test_same_results_give_the_same_bytes(results, tmp_path):
    first = write_quickstart_report(results, tmp_path / "a.html").read_bytes()
    assert first == write_quickstart_report(results, tmp_path / "b.html").read_bytes()


def test_report_recognizes_what_it_is_given(dataset, run, tmp_path):
    html = write_report(dataset.folder, tmp_path / "dataset.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    assert "Every row accounted for" in html
    html = write_report(run, tmp_path / "run.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    assert "&lt;script&gt;" in html
    assert "12,736" in html


def test_report_on_nothing_says_what_to_give(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist. Give a dataset folder"):
        write_report(tmp_path / "absent")
    with pytest.raises(MissingFileError, match="neither a dataset, nor a run"):
        write_report(tmp_path)


def test_page_of_a_quickstart_is_handed_out_again(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "report.html").write_text("<p>page</p>")
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert write_report(tmp_path, tmp_path / "copy.html").read_text() == "<p>page</p>"
