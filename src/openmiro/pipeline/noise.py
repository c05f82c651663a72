"""Seeds and noise: every picture has a seed of its own, so that it does not depend on the pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from openmiro.core.errors import ConfigError

_SEED_LIMIT = 2**63


def resolve_seeds(
    num_images: int,
    seeds: Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
) -> tuple[int, ...]:
    """One seed per picture.

    From `seeds` as they are. A generator stands for a seed: its initial one while nothing was drawn from it, else one
    drawn from it; either way it moves on, so that the next call gives other pictures. One generator for several
    pictures gives consecutive seeds; a list gives one each. With neither, torch's global generator is drawn from.

    Raises:
        ConfigError: both are given, a list has the wrong length, or a seed is no integer in [0, 2^63).
    """
    if seeds is not None and generator is not None:
        raise ConfigError("give either seeds or a generator, not both")
    if seeds is not None:
        return _checked(list(seeds), num_images, "seeds")
    if generator is None:
        first = int(torch.randint(2**31, (1,)))
        return tuple(first + k for k in range(num_images))
    if isinstance(generator, torch.Generator):
        first = _take_seed(generator)
        return _checked([first + k for k in range(num_images)], num_images, "seeds")
    return _checked([_take_seed(g) for g in generator], num_images, "generators")


def draw_noise(seeds: Sequence[int], latent_shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise float32 [B, C, H, W] on the CPU, equal on every device; row k depends on seed k only."""
    noise = torch.empty(len(seeds), *latent_shape)
    for row, seed in enumerate(seeds):
        noise[row].normal_(generator=torch.Generator().manual_seed(seed))
    return noise


def _take_seed(generator: torch.Generator) -> int:
    initial = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(initial).get_state()
    is_fresh = torch.equal(generator.get_state(), fresh)
    drawn = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    return initial if is_fresh else drawn


def _checked(seeds: Sequence[int], num_images: int, what: str) -> tuple[int, ...]:
    if len(seeds) != num_images:
        raise ConfigError(f"{len(seeds)} {what} were given for {num_images} pictures; give one per picture")
    for seed in seeds:
        if not _is_integer(seed) or not 0 <= int(seed) < _SEED_LIMIT:
            raise ConfigError(f"a seed must be a whole number from 0 to 2^63 - 1 (given: {seed!r})")
    return tuple(int(seed) for seed in seeds)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
