import os
from collections import Counter
from pathlib import Path

import pytest

from openmiro.core.errors import DamagedFileError, MissingFileError, UnknownNameError
from openmiro.evaluate.prompts import (
    GenEvalObject,
    PartiPrompt,
    load_prompts,
    read_geneval,
    read_parti,
)

SHARED = Path(os.environ.get("OPENMIRO_SHARED") or Path(__file__).parents[4] / "shared") / "data"


@pytest.fixture
def shared_file():
    def path_of(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no {name} in the folder of shared material (set OPENMIRO_SHARED)")
        return path

    return path_of


def test_genevals_own_file(shared_file):
    prompts = load_prompts(shared_file("geneval_metadata.jsonl"))
    assert Counter(p.tag for p in prompts) == {
        "position": 100,
        "color_attr": 100,
        "two_object": 99,
        "colors": 94,
        "single_object": 80,
        "counting": 80,
    }
    assert all(p.text.startswith("a photo of ") for p in prompts)


def test_partis_own_file(shared_file):
    prompts = load_prompts(shared_file("parti_prompts.tsv"))
    assert len(prompts) == 1632
    assert prompts[0] == PartiPrompt("bond", "Abstract", "Basic", "Biology-inspired concepts with multiple meanings")
    assert any('"PEACE"' in p.text for p in prompts)


def test_geneval_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"tag": "position", "prompt": "a photo of a cat left of a dog", "include": [{"class": "dog", "count": 1},'
        ' {"class": "cat", "count": 1, "position": ["left of", 0]}]}\n\n'
        '{"tag": "counting", "prompt": "two cows", "include": [{"class": "cow", "count": 2}],'
        ' "exclude": [{"class": "cow", "count": 3}]}\r\n'
    )
    first, second = read_geneval(path)
    assert first.include[1] == GenEvalObject(label="cat", relation="left of", relative_to=0)
    assert (second.text, second.exclude) == ("two cows", (GenEvalObject(label="cow", count=3),))


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        "{}",
        "[" * 5000,
        '{"tag": "colors", "prompt": "", "include": [{"class": "cat"}]}',
        '{"tag": "colors", "prompt": "a cat", "include": []}',
        '{"tag": "colors", "prompt": "a cat", "include": ["cat"]}',
        '{"tag": "colors", "prompt": "a cat", "include": [{"class": "cat", "count": "many"}]}',
        '{"tag": "colors", "prompt": "a cat", "include": [{"class": "cat", "position": "left"}]}',
        '{"tag": "colors", "prompt": "a cat", "include": [{"class": "cat", "position": ["inside", 0]}]}',
        '{"tag": "colors", "prompt": "a cat", "include": [{"class": "cat", "size": 3}]}',
    ],
)
def test_damaged_geneval_lines_are_named(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    good = '{"tag": "single_object", "prompt": "a cat", "include": [{"class": "cat", "count": 1}]}'
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(DamagedFileError, match=r"prompts\.jsonl, line 2"):
        load_prompts(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a prompt\nanother\n", "no header"),
        ("Prompt\tCategory\tChallenge\tNote\nonly one column\n", "line 2 has 1 columns"),
        ("Prompt\tCategory\tChallenge\tNote\n", "holds no prompts"),
        ("Prompt\tCategory\tChallenge\tNote\n \tA\tB\tC\n", "line 2: a prompt is"),
    ],
)
def test_damaged_parti_files(tmp_path, content, message):
    path = tmp_path / "prompts.tsv"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=message):
        load_prompts(path)


def test_quotes_in_parti_are_plain_characters(tmp_path):
    path = tmp_path / "prompts.tsv"
    path.write_text('Prompt\tCategory\tChallenge\tNote\n"a sign\tWorld\tBasic\tnote\nb"\tWorld\tBasic\tnote\n')
    assert [p.text for p in read_parti(path)] == ['"a sign', 'b"']


def test_plain_lists(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa cat\r\n\r\na dog \n".encode())
    assert [p.text for p in load_prompts(path)] == ["a cat", "a dog"]


def test_not_text_at_all(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DamagedFileError, match="not UTF-8"):
        load_prompts(path)


def test_the_lab_and_wrong_names(tmp_path):
    assert len(load_prompts("lab", num_per_tag=3)) == 18
    with pytest.raises(UnknownNameError, match="Did you mean 'lab'"):
        load_prompts("labs")
    with pytest.raises(MissingFileError, match="does not exist"):
        load_prompts(tmp_path / "none.txt")
