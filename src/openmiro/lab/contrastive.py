"""A two-tower contrastive network for the lab, and the command that trained the shipped weights.

It learns from original captions, 30 % of them wrong, with the symmetric contrastive loss of CLIP (Radford et al. 2021),
and so makes an imperfect proxy of alignment. Train it again with ``python -m openmiro.lab.contrastive``; what came out
is recorded beside the weights in ``assets/similarity.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from openmiro.core.artifact import atomic_path, write_json
from openmiro.core.config import Config
from openmiro.core.errors import MissingFileError
from openmiro.core.progress import progress
from openmiro.core.seeds import numpy_generator
from openmiro.lab.captions import words_of
from openmiro.lab.scenes import REFERENCE_WIDTH, LabSettings, render_array
from openmiro.lab.shards import sample_pair

IMAGE_SIDE = REFERENCE_WIDTH
WIDTH = 64
MAX_WORDS = 20
ASSETS = Path(__file__).parent / "assets"
WEIGHTS_NAME = "similarity.safetensors"

_WORDS = """
    a above and background below beige blue by cross crosses cyan dark gray green left object of on one other photo
    picture purple red right ring rings shape shapes side something square squares the thing three to top triangle
    triangles two under white with yellow
"""
VOCABULARY = tuple(_WORDS.split())
"""Words that the text tower knows; it passes over all others."""

_WORD_IDS = {word: i + 1 for i, word in enumerate(VOCABULARY)}


class ImageTower(nn.Module):
    """[B, 3, 24, 24] in [-1, 1] to unit vectors [B, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 40, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(40, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(64 * 9, WIDTH),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.layers(pixels), dim=-1)


class TextTower(nn.Module):
    """Word ids [B, MAX_WORDS] (0 is padding) to unit vectors [B, WIDTH]: words in the light of their neighbors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY) + 1, WIDTH, padding_idx=0)
        self.neighbors = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        known = (ids > 0).unsqueeze(-1).to(self.out.weight.dtype)
        words = self.words(ids)
        mixed = words + F.gelu(self.neighbors(words.transpose(1, 2)).transpose(1, 2))
        pooled = (mixed * known).sum(1) / known.sum(1).clamp(min=1)
        return F.normalize(self.out(pooled), dim=-1)


@dataclass(frozen=True)
class Towers:
    """Both towers, ready to score."""

    image: ImageTower
    text_tower: TextTower

    def text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, WIDTH] of captions."""
        return self.text_tower(word_ids(texts))


def word_ids(texts: Sequence[str]) -> Tensor:
    """int64 [B, MAX_WORDS]; unknown words are left out, words beyond MAX_WORDS cut."""
    ids = torch.zeros(len(texts), MAX_WORDS, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        known = [_WORD_IDS[w] for w in words_of(text) if w in _WORD_IDS][:MAX_WORDS]
        row[: len(known)] = torch.tensor(known, dtype=torch.int64)
    return ids


@lru_cache(maxsize=1)
def load_towers(folder: Path = ASSETS) -> Towers:
    """The trained towers in double precision.

    Raises:
        MissingFileError: the weights are not there.
    """
    path = folder / WEIGHTS_NAME
    if not path.exists():
        raise MissingFileError(f"{path} does not exist. Train it with: python -m openmiro.lab.contrastive")
    tensors = load_file(path)
    towers = Towers(ImageTower(), TextTower())
    for name, module in (("image.", towers.image), ("text.", towers.text_tower)):
        module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        module.double().eval().requires_grad_(False)
    return towers


class TrainingSettings(Config):
    """How the shipped weights were trained."""

    num_pairs: int = 24_000
    num_steps: int = 1_500
    batch_size: int = 192
    learning_rate: float = 2e-3
    seed: int = 20_000_003


class TrainingLog(Config):
    """What came out: `accuracy` is how often the right caption beats one of another scene, on clean held-out pairs."""

    settings: TrainingSettings
    loss: float
    temperature: float
    accuracy: float


def train(settings: TrainingSettings, folder: Path) -> TrainingLog:
    """Trains both towers on lab pairs and writes weights (half precision) and log to `folder`."""
    torch.manual_seed(settings.seed)
    pixels, ids = _make_pairs(settings)
    image, text = ImageTower(), TextTower()
    log_scale = nn.Parameter(torch.tensor(np.log(10.0), dtype=torch.float32))
    parameters = [*image.parameters(), *text.parameters(), log_scale]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.num_steps)
    rng = numpy_generator(settings.seed, "lab/contrastive/batches")
    recent = []
    with progress("training the similarity reward", settings.num_steps, "steps") as advance:
        for _ in range(settings.num_steps):
            rows = torch.from_numpy(rng.choice(settings.num_pairs, settings.batch_size, replace=False))
            logits = log_scale.exp() * image(pixels[rows]) @ text(ids[rows]).T
            # Many captions are alike, and each is right for the others' pictures as well.
            same = (ids[rows][:, None] == ids[rows][None]).all(-1).float()
            goal = same / same.sum(1, keepdim=True)
            loss = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                log_scale.clamp_(max=np.log(30.0))
            recent = [*recent[-99:], loss.item()]
            advance(1, f"loss {np.mean(recent):.3f}")
    tensors = {f"image.{k}": v.half().contiguous() for k, v in image.state_dict().items()}
    tensors |= {f"text.{k}": v.half().contiguous() for k, v in text.state_dict().items()}
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        save_file(tensors, temporary)
    load_towers.cache_clear()
    log = TrainingLog(
        settings=settings,
        loss=round(float(np.mean(recent)), 4),
        temperature=round(float(log_scale.exp()), 3),
        accuracy=round(pair_accuracy(load_towers(folder), settings.seed + 1), 4),
    )
    write_json((folder / WEIGHTS_NAME).with_suffix(".json"), log.dump())
    return log


def _make_pairs(settings: TrainingSettings) -> tuple[Tensor, Tensor]:
    world = LabSettings()
    pairs = [sample_pair(i, settings.seed, world) for i in range(settings.num_pairs)]
    return _pixels([render_array(p.scene, IMAGE_SIDE) for p in pairs]), word_ids([p.captions.original for p in pairs])


def _pixels(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)


@torch.no_grad()
def pair_accuracy(towers: Towers, seed: int, num_pairs: int = 1000) -> float:
    """How often a picture is nearer to its own correct short caption than to the next scene's (a different one)."""
    world = LabSettings(degraded=0)
    pairs = [sample_pair(i, seed, world) for i in range(num_pairs)]
    images = towers.image(_pixels([render_array(p.scene, IMAGE_SIDE) for p in pairs]).double())
    texts = [p.captions.short_synthetic for p in pairs]
    own = (images * towers.text(texts)).sum(-1)
    other = (images * towers.text(texts[1:] + texts[:1])).sum(-1)
    differs = torch.tensor([a != b for a, b in zip(texts, texts[1:] + texts[:1], strict=True)])
    return float((own > other)[differs].double().mean())


def main() -> None:
    """Trains the weights that the package ships."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the weights and their log")
    log = train(TrainingSettings(), parser.parse_args().out)
    Console(stderr=True).print(log.to_yaml())


if __name__ == "__main__":
    main()
