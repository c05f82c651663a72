"""Every command of the tutorial runs as it is printed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.e2e.commands import succeed

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "own-photos.md"


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


def write_photos(folder: Path, num: int) -> None:
    """Gradients of different color, contrast and grain: enough for every reward to vary."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 96)[:, None, None] * np.linspace(0.2, 1, 80)[None, :, None]
    for k in range(num):
        picture = ramp * rng.uniform(0, 255, 3) + rng.normal(0, rng.uniform(0, 20), (96, 80, 3))
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"photo{k:02}.jpg")
        (folder / f"photo{k:02}.txt").write_text(f"a photo of thing number {k}", encoding="utf-8")


@pytest.mark.slow
def test_tutorial_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(Path("photos"), 24)
    lines = commands(TUTORIAL)
    assert len(lines) >= 9
    for program, *args in lines:
        assert program == "openmiro"
        succeed(*args)
    assert Path("runs/photos/report.html").exists()
    assert list(Path("dataset/stats").iterdir())
    dull, colorful = (next(Path(f"samples/{name}").glob("*.png")) for name in ("dull", "colorful"))
    assert dull.read_bytes() != colorful.read_bytes()
