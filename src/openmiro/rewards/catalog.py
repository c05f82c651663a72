"""The one table of built-in rewards. Naming a reward imports nothing but that reward.

Other packages add rewards through the entry-point group ``openmiro.rewards``; a user's own needs only a dotted path.
"""

from __future__ import annotations

from collections.abc import Iterable

from openmiro.core.errors import ConfigError, UnknownNameError
from openmiro.core.registry import Registry
from openmiro.core.types import RewardModel, RewardSet

REWARD_SETS: dict[str, tuple[str, ...]] = {
    "lab": ("aesthetic", "sharpness", "alignment", "similarity", "preference_a", "preference_b", "shadow"),
    "classical": ("colorfulness", "laplacian_sharpness", "contrast", "exposure"),
}
"""Names that stand for several rewards, in their order."""

CATALOG = Registry(
    kind="reward",
    builtin={
        "colorfulness": "openmiro.rewards.classical:Colorfulness",
        "laplacian_sharpness": "openmiro.rewards.classical:Sharpness",
        "contrast": "openmiro.rewards.classical:Contrast",
        "exposure": "openmiro.rewards.classical:Exposure",
        "aesthetic": "openmiro.lab.rewards:Aesthetic",
        "sharpness": "openmiro.lab.rewards:Sharpness",
        "alignment": "openmiro.lab.rewards:Alignment",
        "similarity": "openmiro.lab.rewards:Similarity",
        "preference_a": "openmiro.lab.rewards:PreferenceA",
        "preference_b": "openmiro.lab.rewards:PreferenceB",
        "shadow": "openmiro.lab.rewards:Shadow",
    },
    group="openmiro.rewards",
)
"""Name -> class or factory without arguments."""


def load_reward(name: str) -> RewardModel:
    """One reward, ready to score: a built-in, an installed or a dotted name ``package.module:attribute``.

    The attribute is a class or function without arguments, or a finished object.

    Raises:
        UnknownNameError: no such name; the message lists names and sets.
        ConfigError: the dotted path does not exist or leads to something that is not a reward.
        MissingExtraError: the reward needs a package that is not installed.
    """
    try:
        found = CATALOG.resolve(name)
    except UnknownNameError:
        hint = "Or a dotted path to your own: package.module:attribute."
        raise UnknownNameError("reward", name, [*CATALOG.names(), *REWARD_SETS], hint) from None
    try:
        # A class satisfies the protocol's attribute check as well as its instances do.
        model = found() if isinstance(found, type) or not isinstance(found, RewardModel) else found
    except TypeError as error:
        raise ConfigError(f"the reward '{name}' cannot be made without arguments: {error}") from error
    if not isinstance(model, RewardModel):
        raise ConfigError(
            f"'{name}' is not a reward: a {type(model).__name__} lacks one of spec, preprocess, encode_images, score"
        )
    if name in CATALOG.builtin and model.spec.name != name:
        raise ConfigError(f"the reward '{name}' calls itself '{model.spec.name}'")
    return model


def expand_names(names: Iterable[str]) -> list[str]:
    """Replaces the names of sets by their members and drops repetitions; order is kept."""
    return list(dict.fromkeys(member for name in names for member in REWARD_SETS.get(name, (name,))))


def resolve_rewards(names: Iterable[str]) -> list[RewardModel]:
    """The rewards behind names, sets and dotted paths, in declared order, each once.

    Raises:
        UnknownNameError: an unknown name; the message lists names and sets.
        ConfigError: two different rewards call themselves the same.
    """
    models = [load_reward(name) for name in expand_names(names)]
    by_name = {model.spec.name: type(model) for model in models}
    for model in models:
        if by_name[model.spec.name] is not type(model):
            raise ConfigError(f"two different rewards are named '{model.spec.name}'. Rename one of them in its spec.")
    return list({model.spec.name: model for model in reversed(models)}.values())[::-1]


def reward_set(models: Iterable[RewardModel]) -> RewardSet:
    """The specs of rewards, in their order."""
    return RewardSet(specs=tuple(model.spec for model in models))
