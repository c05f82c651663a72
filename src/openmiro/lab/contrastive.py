"""A two-tower contrastive network for the lab, and the command that trained the shipped weights.

It learns from original captions, 30 % of them wrong, with the symmetric contrastive loss of CLIP (Radford et al. 2021),
and so makes an imperfect proxy of alignment. Train it again with ``python -m openmiro.lab.contrastive``; what came out
is recorded beside the weights in ``assets/similarity.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from openmiro.lab.captions import (
    OPPOSITE,
    Claim,
    flipped,
    full_claim,
    short_wording,
    with_wrong_attribute,
    words_of,
)
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
    num_judged: int = 1_500
    seed: int = 20_000_003


class TrainingLog(Config):
    """What came out.

    Attributes:
        loss: mean of the last 100 steps.
        temperature: factor on the cosines that the loss learned.
        other_scene: how often the right caption beats that of another scene, on clean held-out pairs.
        wrong_attribute: likewise against the same caption with one shape, color or count changed.
        wrong_relation: likewise with the relation turned round.
        wrong_binding: likewise with the two objects' colors exchanged; 0.5 is chance.
    """

    settings: TrainingSettings
    loss: float
    temperature: float
    other_scene: float
    wrong_attribute: float
    wrong_relation: float
    wrong_binding: float


def train(settings: TrainingSettings, folder: Path) -> TrainingLog:
    """Trains both towers on lab pairs and writes weights (half precision) and log to `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        image, text = ImageTower(), TextTower()
    loss, temperature = _fit(image, text, settings)
    tensors = {f"image.{k}": v.half().contiguous() for k, v in image.state_dict().items()}
    tensors |= {f"text.{k}": v.half().contiguous() for k, v in text.state_dict().items()}
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        save_file(tensors, temporary)
    load_towers.cache_clear()
    log = TrainingLog(
        settings=settings,
        loss=round(loss, 4),
        temperature=round(temperature, 3),
        **choice_accuracies(load_towers(folder), settings.seed + 1, settings.num_judged),
    )
    write_json((folder / WEIGHTS_NAME).with_suffix(".json"), log.dump())
    return log


def _fit(image: ImageTower, text: TextTower, settings: TrainingSettings) -> tuple[float, float]:
    """Trains both towers; returns the last loss, smoothed, and the learned temperature."""
    pixels, ids = _make_pairs(settings)
    log_scale = nn.Parameter(torch.tensor(np.log(10.0), dtype=torch.float32))
    parameters = [*image.parameters(), *text.parameters(), log_scale]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.num_steps)
    rng = numpy_generator(settings.seed, "lab/contrastive/batches")
    recent: list[float] = []
    with progress("training the similarity reward", settings.num_steps, "steps") as advance:
        for _ in range(settings.num_steps):
            rows = torch.from_numpy(rng.choice(settings.num_pairs, settings.batch_size, replace=False))
            loss = _loss(log_scale.exp() * image(pixels[rows]) @ text(ids[rows]).T, ids[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                log_scale.clamp_(max=np.log(30.0))
            recent = [*recent[-99:], loss.item()]
            advance(1, f"loss {np.mean(recent):.3f}")
    return float(np.mean(recent)), log_scale.exp().item()


def _loss(logits: Tensor, ids: Tensor) -> Tensor:
    # Many captions are alike, and each is right for the others' pictures as well.
    same = (ids[:, None] == ids[None]).all(-1).float()
    goal = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2


def _make_pairs(settings: TrainingSettings) -> tuple[Tensor, Tensor]:
    world = LabSettings()
    pairs = [sample_pair(i, settings.seed, world) for i in range(settings.num_pairs)]
    return _pixels([render_array(p.scene, IMAGE_SIDE) for p in pairs]), word_ids([p.captions.original for p in pairs])


def _pixels(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)


@torch.no_grad()
def choice_accuracies(towers: Towers, seed: int, num_pairs: int = 1500) -> dict[str, float]:
    """How often clean held-out pictures are nearer to their own caption than to a false one (see `TrainingLog`)."""
    world = LabSettings(degraded=0)
    rng = numpy_generator(seed, "lab/contrastive/false-captions")
    scenes = [sample_pair(i, seed, world).scene for i in range(num_pairs)]
    images = towers.image(_pixels([render_array(s, IMAGE_SIDE) for s in scenes]).double())
    claims = [full_claim(s) for s in scenes]
    changed = [with_wrong_attribute(c, s, rng, world) for c, s in zip(claims, scenes, strict=True)]
    pairs = [len(c.mentions) == 2 for c in claims]
    rivals = {
        "other_scene": [(c, True) for c in claims[1:] + claims[:1]],
        "wrong_attribute": [(w, w.relation == c.relation) for w, c in zip(changed, claims, strict=True)],
        "wrong_relation": [(_turned(c) if p else c, p) for c, p in zip(claims, pairs, strict=True)],
        "wrong_binding": [(_exchanged(c) if p else c, p) for c, p in zip(claims, pairs, strict=True)],
    }
    own = (images * towers.text([short_wording(c) for c in claims])).sum(-1)
    accuracies = {}
    for name, rival in rivals.items():
        other = (images * towers.text([short_wording(r) for r, _ in rival])).sum(-1)
        counts = torch.tensor([use and r not in (c, flipped(c)) for (r, use), c in zip(rival, claims, strict=True)])
        accuracies[name] = round((own > other)[counts].double().mean().item(), 4)
    return accuracies


def _turned(claim: Claim) -> Claim:
    return replace(claim, relation=OPPOSITE[claim.relation] if claim.relation else None)


def _exchanged(claim: Claim) -> Claim:
    first, second = claim.mentions
    return replace(claim, mentions=(replace(first, color=second.color), replace(second, color=first.color)))


def main() -> None:
    """Trains the weights that the package ships."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder for the weights and their log")
    log = train(TrainingSettings(), parser.parse_args().out)
    Console(stderr=True).print(log.to_yaml())


if __name__ == "__main__":
    main()
