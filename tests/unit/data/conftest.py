"""A small dataset folder with every kind of column. Annotating needs rewards and codecs, so this is the one place where
tests of data reach above it."""

import shutil

import pytest
from tests.builders import pair, write_tar

from openmiro.annotate import annotate, encode, fit_dataset_levels

TOYS = ["tests.toys:TextNumber", "tests.toys:ShortTextNumber", "tests.toys:Width"]


def _row(i):
    fields = {}
    if i % 3 != 2:
        fields["synthetic_caption"] = f"that is s{i}"
    if i % 3 == 1:
        fields["short_synthetic_caption"] = f"t{i}"
    if i % 11 == 10:
        return [(f"{i:03}.png", b"damaged"), (f"{i:03}.txt", f"this is o{i}")]
    return pair(f"{i:03}", i, f"this is o{i}", **fields)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for shard in range(3):
        members = [member for i in range(shard * 20, shard * 20 + 20) for member in _row(i)]
        write_tar(root / "s" / f"{shard:05}.tar", members)
    annotate(root / "s", root / "d", TOYS, num_workers=0, max_bad_share=0.2)
    encode(root / "d", "patch4x12", "words", 8, num_workers=0)
    fit_dataset_levels(root / "d")
    return root / "d"


@pytest.fixture
def folder(made, tmp_path):
    """A copy to damage."""
    shutil.copytree(made.parent / "s", tmp_path / "s")
    return shutil.copytree(made, tmp_path / "d")
