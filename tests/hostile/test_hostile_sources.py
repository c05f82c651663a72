"""Inputs that want to do harm: every row gets an account, nothing else is raised or written, memory is bounded."""

import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.builders import encoded, pair, picture, write_tar

from openmiro.annotate import annotate, encode
from openmiro.core.errors import OpenMiroError
from openmiro.data.status import RowStatus
from openmiro.data.store import Dataset
from openmiro.data.verify import verify


def png_of(width, height):
    """A PNG that claims a size, with next to no data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def png_with_text_bomb():
    content = picture()
    bomb = b"zTXt" + b"k\0\0" + zlib.compress(b"A" * 50_000_000)
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + struct.pack(">I", zlib.crc32(bomb))
    return content[:33] + chunk + content[33:]


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ROWS = {
    "bomb144": (png_of(12_000, 12_000), RowStatus.IMAGE_TOO_LARGE),
    "bomb400": (png_of(20_000, 20_000), RowStatus.IMAGE_TOO_LARGE),
    "bomb4g": (png_of(2**31 - 1, 2**31 - 1), None),
    "claims": (png_of(7_000, 7_000), None),
    "textbomb": (png_with_text_bomb(), None),
    "zero": (png_of(0, 10), None),
    "empty": (b"", RowStatus.IMAGE_UNREADABLE),
    "html": (b"<html><script>alert(1)</script>", RowStatus.IMAGE_UNREADABLE),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run", RowStatus.IMAGE_UNREADABLE),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', RowStatus.IMAGE_UNREADABLE),
    "tiff": (encoded(Image.new("RGB", (16, 16)), "TIFF"), RowStatus.IMAGE_UNREADABLE),
    "cut": (encoded(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "JPEG")[:200], None),
    "tiny": (encoded(Image.new("RGB", (1, 1))), RowStatus.IMAGE_TOO_SMALL),
    "sixteen": (encoded(Image.fromarray(np.full((16, 16), 40_000, np.uint16))), RowStatus.OK),
    "pickle": (b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.", RowStatus.IMAGE_UNREADABLE),
}
CAPTIONS = {
    "huge": b"word " * 2_000_000,
    "latin1": b"caf\xe9 \xff\xfe",
    "utf16": "text".encode("utf-16"),
    "escapes": b"\x1b[2J\x1b]0;owned\x07 red",
    "nul": b"a\0b",
    "rtl": "‮gnp.exe".encode(),
    "jinja": b"{{ 7 * 7 }} <script>alert(1)</script>",
}
METADATA = {
    "surrogate": '{"caption": "a\\ud800b", "synthetic_caption": "x\\udfff"}',
    "deep": "[" * 100_000,
    "types": '{"caption": ["a"], "synthetic_caption": {"a": 1}, "short_synthetic_caption": 7}',
    "nan": '{"synthetic_caption": NaN}',
    "large": json.dumps({"synthetic_caption": "x" * 3_000_000}),
}


@pytest.fixture(scope="module")
def hostile_tar(tmp_path_factory):
    members = []
    for key, (content, _) in ROWS.items():
        members += [(f"{key}.png", content), (f"{key}.txt", "a caption")]
    for key, caption in CAPTIONS.items():
        members += [(f"{key}.png", picture()), (f"{key}.txt", caption)]
    for key, metadata in METADATA.items():
        members += [(f"{key}.png", picture()), (f"{key}.txt", "a caption"), (f"{key}.json", metadata)]
    for name in ("../../escape", "/tmp/openmiro-escape", "a/../../../b", "C:\\evil", "x" * 5000):
        members += pair(name)
    members += [link("l1.png", "/etc/passwd"), ("l1.txt", "x"), link("l2.png", "good.png", tarfile.LNKTYPE)]
    members += [link("dev.png", "", tarfile.CHRTYPE), link("folder.png", "", tarfile.DIRTYPE)]
    members += pair("good")
    return write_tar(tmp_path_factory.mktemp("h") / "hostile.tar", members, tarfile.PAX_FORMAT)


@pytest.fixture(scope="module")
def report(hostile_tar):
    out = hostile_tar.parent / "out" / "d"
    return annotate(hostile_tar, out, ["classical"], num_workers=0, max_bad_share=1)


def test_every_row_has_its_name(report):
    rows = {row.key: row for row in Dataset.open(report.dataset).rows("hostile").rows}
    for key, (_, status) in ROWS.items():
        assert rows[key].status == status or (status is None and not rows[key].is_ok) or key in ("textbomb",), rows[key]
    assert all(rows[key].is_ok for key in (*CAPTIONS, *METADATA, "good"))
    assert rows["l1"].status == rows["l2"].status == rows["dev"].status == RowStatus.MEMBER_NOT_REGULAR
    assert report.accounting.num_rows == len(rows) == sum(report.accounting.rows.values())


def test_texts_are_harmless_and_flagged(report):
    rows = {row.key: row for row in Dataset.open(report.dataset).rows("hostile").rows}
    assert len(rows["huge"].caption.encode()) <= 16_384
    for row in rows.values():
        for text in (row.key, row.detail, row.caption or "", row.synthetic or ""):
            text.encode()
            assert "\x1b" not in text
            assert "\0" not in text
    assert report.accounting.flags["caption_cut"] >= 1
    assert report.accounting.flags["caption_not_utf8"] >= 2
    assert report.accounting.flags["metadata_unreadable"] == 2
    assert rows["types"].synthetic is None
    assert rows["surrogate"].synthetic == "x\ufffd"


def test_nothing_is_written_outside(report, hostile_tar):
    top = hostile_tar.parent
    assert sorted(p.name for p in top.iterdir()) == ["hostile.tar", "out"]
    assert not Path("/tmp/openmiro-escape.png").exists()
    assert not Path("/tmp/owned").exists()
    allowed = {"dataset.json", "report.json", ".lock"}
    names = {p.name for p in (top / "out").rglob("*") if p.is_file()}
    assert names - allowed == {"hostile.parquet", "hostile.parquet.json"}


def test_the_rest_of_the_pipeline_goes_on(report):
    encode(report.dataset, "patch4x12", "words", 16, num_workers=0)
    assert verify(report.dataset) == []


def test_memory_stays_bounded(hostile_tar, tmp_path):
    resource = pytest.importorskip("resource", reason="memory limits need a Unix system")
    limit = 6 * 2**30  # address space, of which PyTorch alone reserves much

    script = (
        "import sys; from openmiro.annotate import annotate; "
        "r = annotate(sys.argv[1], sys.argv[2], ['contrast'], num_workers=0, max_bad_share=1); "
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, hostile_tar, tmp_path / "d"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1500


@pytest.mark.parametrize(
    "surroundings", [{"LC_ALL": "C", "PYTHONHASHSEED": "1"}, {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}]
)
def test_bytes_do_not_depend_on_locale_hash_seed_or_umask(hostile_tar, report, tmp_path, surroundings):
    script = (
        "import sys; from openmiro.annotate import annotate; "
        "annotate(sys.argv[1], sys.argv[2], ['classical'], num_workers=0, max_bad_share=1)"
    )
    subprocess.run(
        [sys.executable, "-c", script, hostile_tar, tmp_path / "d"],
        check=True,
        preexec_fn=lambda: os.umask(0o077) and None,
        env={**os.environ, **surroundings, "OMP_NUM_THREADS": "1"},
    )
    for path in sorted(p for p in report.dataset.rglob("*.parquet") if p.parts[-2] in ("rows", "image")):
        assert (tmp_path / "d" / path.relative_to(report.dataset)).read_bytes() == path.read_bytes()


def test_no_space_left(tmp_path):
    pytest.importorskip("resource", reason="file size limits need a Unix system")
    members = [member for i in range(300) for member in pair(f"{i:04}", i, f"caption {i} " * 20)]
    path = write_tar(tmp_path / "a.tar", members)
    script = """
import resource, sys
from openmiro.annotate import annotate, encode
from openmiro.core.errors import DiskFullError
if sys.argv[3] == "annotate":
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    work = lambda: annotate(sys.argv[1], sys.argv[2], ["contrast"], num_workers=0)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    work = lambda: encode(sys.argv[2], "patch4x12", "words", 32, num_workers=0)
try:
    work()
except DiskFullError as error:
    print("FULL", error)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for stage in ("annotate", "encode"):
        command = [sys.executable, "-c", script, path, tmp_path / "d", stage]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert "FULL no space left while writing" in done.stdout, done.stderr
        assert not list(tmp_path.rglob(".tmp-*"))
        if stage == "annotate":
            annotate(path, tmp_path / "d", ["contrast"], num_workers=0)
    encode(tmp_path / "d", "patch4x12", "words", 32, num_workers=0)
    assert verify(tmp_path / "d") == []


def test_rows_of_a_stream_that_is_not_seekable_are_no_source(tmp_path):
    fifo = tmp_path / "pipe.tar"
    os.mkfifo(fifo)
    with pytest.raises(OpenMiroError):
        annotate(fifo, tmp_path / "d", num_workers=0)
