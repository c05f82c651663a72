import pytest

from openmiro.core.errors import ConfigError, MissingFileError, UnknownNameError
from openmiro.models.factory import build_denoiser
from openmiro.rewards.catalog import REWARD_SETS
from openmiro.train.optim import build_optimizer
from openmiro.train.recipe import LAB_REWARDS, Recipe, list_recipes, load_recipe

# What the dataset would bring: the lab's 24-pixel pictures, and 64-pixel photos, through the patch codec.
LAB_INPUTS = {"latent_shape": [12, 6, 6], "vocabulary_size": 80, "max_text_tokens": 32}
PHOTO_INPUTS = {"latent_shape": [12, 16, 16], "vocabulary_size": 500, "max_text_tokens": 32}


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_is_built(name):
    recipe = load_recipe(name)
    inputs = PHOTO_INPUTS if name.startswith("photos") else LAB_INPUTS
    denoiser = build_denoiser({**recipe.model, **inputs, "num_rewards": len(recipe.rewards)})
    build_optimizer(denoiser, recipe.optimizer)
    assert recipe.name == name
    assert recipe.num_steps > 0
    assert sum(p.numel() for p in denoiser.parameters()) > 100_000


@pytest.mark.parametrize("name", list_recipes())
def test_dump_and_parse_are_inverse(name):
    recipe = load_recipe(name)
    assert Recipe.parse(recipe.dump()) == recipe


def test_lab_rewards_are_the_catalogs():
    assert REWARD_SETS["lab"] == LAB_REWARDS


def test_shipped_names():
    names = list_recipes()
    assert {"lab-baseline", "lab-miro", "lab-miro-synth", "photos-tiny"} <= set(names)
    assert {f"lab-only-{r}" for r in LAB_REWARDS} | {f"lab-without-{r}" for r in LAB_REWARDS} <= set(names)
    assert not any("@" in name for name in names)


@pytest.mark.parametrize("reward", LAB_REWARDS)
def test_templates_are_written_out(reward):
    only, without = load_recipe(f"lab-only-{reward}"), load_recipe(f"lab-without-{reward}")
    assert only.rewards == (reward,)
    assert only.sampling.default.targets == {reward: 1.0}
    assert without.rewards == tuple(r for r in LAB_REWARDS if r != reward)
    assert all(reward not in {**p.targets, **p.avoid} for p in without.sampling.presets.values())


def test_extending_changes_only_what_it_names():
    base, miro = load_recipe("lab-baseline").dump(), load_recipe("lab-miro").dump()
    different = {key for key in base if base[key] != miro[key]}
    assert different == {"name", "rewards", "dropout", "sampling", "samples"} & different | {"name", "rewards"}
    assert miro["dropout"]["text"] == base["dropout"]["text"]


def test_overrides_win_over_the_file():
    recipe = load_recipe("lab-miro", ["optimizer.learning_rate=3e-4", "rewards=[]", "sampling={}", "clip_norm=null"])
    assert (recipe.optimizer.learning_rate, recipe.rewards, recipe.clip_norm) == (3e-4, (), None)


@pytest.mark.parametrize(
    ("override", "kind", "words"),
    [
        ("optimzer.kind=adamw", UnknownNameError, ["'optimizer'"]),
        ("optimizer.leaning_rate=1", UnknownNameError, ["optimizer.leaning_rate", "'optimizer.learning_rate'"]),
        ("checkpoint.every=5", UnknownNameError, ["checkpoint.every_images"]),
        ("time.men=5", UnknownNameError, ["time.mean"]),
        ("images=10", ConfigError, ["images (10)", "batch (64)"]),
        ("gradient_accumulation=7", ConfigError, ["gradient_accumulation (7)"]),
        ("data.synthetic_share=2", ConfigError, ["data.synthetic_share"]),
        ("optimizer.kind=sgd", ConfigError, ["optimizer.kind", "'sgd'"]),
        ("rewards=[shadow,shadow]", ConfigError, ["twice"]),
        ("sampling.default.targets.shadow=1.5", ConfigError, ["shadow", "[0, 1]"]),
        ("sampling.default.targets.shade=1", UnknownNameError, ["shade", "'shadow'"]),
        ("samples.every_images=64", ConfigError, ["samples.prompts"]),
        ("name=../escape", ConfigError, ["name"]),
        ("images", ConfigError, ["key=value"]),
    ],
)
def test_a_wrong_key_or_value_is_named(override, kind, words):
    changes = ["samples={}", override]
    with pytest.raises(kind) as caught:
        load_recipe("lab-miro", changes)
    for word in words:
        assert word in str(caught.value)


def test_wrong_names_and_files():
    with pytest.raises(UnknownNameError, match="Did you mean 'lab-miro'"):
        load_recipe("lab-mirro")
    with pytest.raises(UnknownNameError):
        load_recipe("lab-only-beauty")
    with pytest.raises(UnknownNameError):
        load_recipe("../recipes/lab-miro")
    with pytest.raises(MissingFileError, match="nowhere.yaml"):
        load_recipe("nowhere.yaml")


def test_ones_own_file_extends_a_shipped_recipe_and_a_neighbor(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: lab-miro\nseed: 7\nmodel: {depth: 2}\n")
    (tmp_path / "yours.yaml").write_text("extends: mine.yaml\nname: yours-2\n-rewards: [shadow]\nsampling: null\n")
    mine = load_recipe(tmp_path / "mine.yaml")
    assert (mine.name, mine.seed, mine.model["depth"], mine.model["width"]) == ("mine", 7, 2, 128)
    with pytest.raises(ConfigError, match="sampling"):
        load_recipe(tmp_path / "yours.yaml")


def test_recipes_in_a_circle(tmp_path):
    (tmp_path / "a.yaml").write_text(f"extends: {tmp_path / 'b.yaml'}\n")
    (tmp_path / "b.yaml").write_text(f"extends: {tmp_path / 'a.yaml'}\n")
    with pytest.raises(ConfigError, match="circle"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "key: [", "!!python/object/apply:os.system ['true']"])
def test_a_file_that_is_no_recipe(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")
