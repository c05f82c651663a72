"""What a picture was drawn with, inside its PNG file, so that it can be drawn again."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import Field

from openmiro.core.artifact import atomic_path
from openmiro.core.config import Config
from openmiro.core.errors import ConfigError, DamagedFileError, MissingFileError, UnknownNameError
from openmiro.flow.solvers import SOLVERS

_CHUNK = "openmiro"
_LARGEST_CHUNK = 1_000_000


class PictureMetadata(Config):
    """All that decides a picture.

    Attributes:
        prompt, negative_prompt: the texts.
        seed: of the noise; None where latents were given instead.
        targets, avoid: known levels by reward; the others are unknown.
        guidance, guidance_scale, guidance_interval, num_steps, solver: as resolved, no defaults left.
        model: fingerprint of the checkpoint.
        dtype: of the arithmetic.
        openmiro_version: of the package.
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None
    targets: dict[str, float] = {}
    avoid: dict[str, float] = {}
    guidance: Literal["text", "reward", "joint"]
    guidance_scale: float
    guidance_interval: tuple[float, float] | None = None
    num_steps: int
    solver: str
    model: str = ""
    dtype: str = "float32"
    openmiro_version: str = Field(default_factory=lambda: version("openmiro"))

    def call_arguments(self) -> dict[str, Any]:
        """Arguments with which the pipeline of the same checkpoint draws the same picture.

        Raises:
            ConfigError: it was drawn from given latents and has no seed.
            UnknownNameError: it was drawn by a solver that is not registered here.
        """
        if self.seed is None:
            raise ConfigError("this picture was drawn from given latents, so it has no seed to draw it again from")
        if self.solver not in SOLVERS.names():  # a dotted path in a file would choose what gets imported here
            raise UnknownNameError(SOLVERS.kind, self.solver, SOLVERS.names())
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seeds": [self.seed],
            "reward_targets": self.targets,
            "negative_reward_targets": self.avoid,
            "guidance": self.guidance,
            "guidance_scale": self.guidance_scale,
            "guidance_interval": self.guidance_interval or (0.0, 1.0),
            "num_inference_steps": self.num_steps,
            "solver": self.solver,
        }


def write_png(image: Image.Image, path: Path, metadata: PictureMetadata) -> None:
    """Writes a PNG, atomically: metadata as JSON in the text chunk "openmiro", the prompt in "Description"."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Description", metadata.prompt)
    info.add_itxt(_CHUNK, json.dumps(metadata.dump(), sort_keys=True, ensure_ascii=False))
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG", pnginfo=info)


def read_png(path: Path) -> PictureMetadata:
    """The metadata of a PNG that `write_png` wrote.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: it is no PNG, or carries no (valid) metadata.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = getattr(image, "text", {}).get(_CHUNK)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DamagedFileError(f"{path} is not a PNG that can be read: {error}") from None
    if text is None:
        raise DamagedFileError(f"{path} was not written by openmiro: it has no text chunk '{_CHUNK}'")
    try:
        values = json.loads(text[:_LARGEST_CHUNK])
        if not isinstance(values, dict):
            raise ConfigError("it must hold an object")
        return PictureMetadata.parse(values, f"the text chunk '{_CHUNK}'")
    except (json.JSONDecodeError, RecursionError, ConfigError) as error:
        raise DamagedFileError(f"{path}: the text chunk '{_CHUNK}' is damaged: {error}") from None
