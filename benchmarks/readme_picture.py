"""Draws the picture that opens the README: one reward's level rises from left to right, prompt and noise stay.

python benchmarks/readme_picture.py runs/quickstart/runs/lab-miro-* --out docs/images/steering.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from openmiro.pipeline import MiroPipeline

ROWS = (
    ("aesthetic", "a yellow square", 3),
    ("aesthetic", "a blue cross above a red ring", 5),
    ("sharpness", "a green triangle", 2),
    ("sharpness", "a purple ring to the left of a cyan square", 4),
    ("shadow", "a red triangle", 1),
    ("shadow", "two blue squares", 6),
)
"""Reward, prompt and seed."""
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE, GAP, MARGIN = 108, 6, 210


def draw(run: Path) -> Image.Image:
    """One row per line of `ROWS`, one column per level."""
    pipe = MiroPipeline.from_pretrained(run)
    width = MARGIN + len(LEVELS) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, 30 + len(ROWS) * (SIDE + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, level in enumerate(LEVELS):
        pen.text((MARGIN + column * (SIDE + GAP) + SIDE // 2, 8), f"{level:g}", "black", font=font, anchor="mt")
    for row, (reward, prompt, seed) in enumerate(ROWS):
        text = {"alignment": 1.0} if reward != "alignment" else {}
        output = pipe(
            [prompt] * len(LEVELS),
            reward_targets={reward: list(LEVELS), **text},
            negative_reward_targets={reward: [1 - level for level in LEVELS]},
            guidance="joint",
            guidance_scale=4.0,
            seeds=[seed] * len(LEVELS),
        )
        top = 30 + row * (SIDE + GAP)
        pen.text((8, top + SIDE // 2 - 12), reward, "black", font=font, anchor="lm")
        pen.multiline_text((8, top + SIDE // 2 + 2), _wrapped(prompt), "gray", font=ImageFont.load_default(13))
        for column, picture in enumerate(output.images):
            large = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(large, (MARGIN + column * (SIDE + GAP), top))
    return sheet


def _wrapped(prompt: str) -> str:
    words, lines = prompt.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 26:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run folder of a MIRO model of the lab")
    parser.add_argument("--out", type=Path, default=Path("docs/images/steering.png"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(arguments.run).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
