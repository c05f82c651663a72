"""Small sources, built in memory: pictures, tars and folders with whatever a test wants in them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (24, 20), image_format: str = "PNG") -> bytes:
    """A picture with a color gradient that depends on the seed."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size[0])[None, :, None] * rng.uniform(60, 255, 3) + rng.uniform(0, 30, (size[1], 1, 1))
    return encoded(Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8)), image_format)


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, image_format, **options)
    return content.getvalue()


def write_tar(path: Path, members, tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of (name, content) pairs; a TarInfo instead of a pair is added as it is, without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pair(key: str, seed: int = 0, caption: str | bytes | None = None, **fields) -> list[tuple[str, str | bytes]]:
    """The members of one good row; fields go to its JSON."""
    caption = f"picture number {seed}" if caption is None else caption
    members: list[tuple[str, str | bytes]] = [(f"{key}.png", picture(seed)), (f"{key}.txt", caption)]
    return [*members, (f"{key}.json", json.dumps(fields))] if fields else members


def write_shards(folder: Path, num_rows: int, rows_per_shard: int = 10, synthetic_every: int = 2) -> Path:
    """Tars of good rows; every `synthetic_every`-th has synthetic captions."""
    for start in range(0, num_rows, rows_per_shard):
        members = []
        for i in range(start, min(start + rows_per_shard, num_rows)):
            fields = {"synthetic_caption": f"synthetic words for {i}", "short_synthetic_caption": f"synthetic {i}"}
            members += pair(f"{i:06}", i, **(fields if i % synthetic_every == 0 else {}))
        write_tar(folder / f"{start // rows_per_shard:05}.tar", members)
    return folder


def flip_byte(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0xFF
    path.write_bytes(content)


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every visible file of a folder with its content."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if not p.name.startswith(".lock")}
