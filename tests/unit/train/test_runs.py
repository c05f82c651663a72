import pytest
import torch

from openmiro.core.errors import CheckpointError, ProvenanceError
from openmiro.train.recipe import load_recipe
from openmiro.train.runs import (
    begin,
    check_same_data,
    check_same_recipe,
    claim,
    read_environment,
    recipe_fingerprint,
    sole_writer,
)

RECIPE = load_recipe("lab-miro", ["data.dataset=somewhere"])


@pytest.fixture
def run(tmp_path):
    claim(tmp_path, RECIPE, begin("data-1", RECIPE, "fp32", torch.device("cpu")))
    return tmp_path


def changed(*overrides):
    return load_recipe("lab-miro", ["data.dataset=somewhere", *overrides])


def test_a_new_folder_belongs_to_nobody(tmp_path):
    check_same_recipe(tmp_path / "new", RECIPE)
    assert read_environment(tmp_path / "new") is None


def test_the_environment_is_kept(run):
    environment = read_environment(run)
    assert environment is not None
    assert (environment.data, environment.precision, environment.device) == ("data-1", "fp32", "cpu")
    assert environment.threads == torch.get_num_threads()
    assert environment.versions["torch"] == torch.__version__


@pytest.mark.parametrize(
    "free",
    [
        "num_data_workers=3",
        "threads=1",
        "log.every_steps=1",
        "checkpoint.keep=9",
        "data.dataset=elsewhere",
        "sampling.default.guidance_scale=9",
        "gradient_accumulation=2",
        "compile=true",
    ],
)
def test_what_does_not_decide_the_computation_may_change(run, free):
    check_same_recipe(run, changed(free))
    assert recipe_fingerprint(changed(free)) == recipe_fingerprint(RECIPE)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("seed=5", "seed (0 there, 5 asked for)"),
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate"),
        ("model.depth=2", "model.depth"),
        ("model.new=2", "model.new (None there, 2 asked for)"),
        ("images=64", "images"),
        ("data.synthetic_share=0.25", "data.synthetic_share"),
    ],
)
def test_a_folder_of_another_recipe_names_the_keys(run, change, key):
    with pytest.raises(CheckpointError) as caught:
        check_same_recipe(run, changed(change))
    assert key in str(caught.value)
    assert recipe_fingerprint(changed(change)) != recipe_fingerprint(RECIPE)


def test_every_differing_key_is_named(run):
    with pytest.raises(CheckpointError, match=r"batch_size .*; seed"):
        check_same_recipe(run, changed("seed=5", "batch_size=32"))


def test_a_folder_of_other_data(run):
    environment = read_environment(run)
    assert environment is not None
    check_same_data(run, environment.data, "data-1", environment.dataset)
    with pytest.raises(ProvenanceError, match=r"somewhere.*data-1.*data-2"):
        check_same_data(run, environment.data, "data-2", environment.dataset)


def test_two_processes_never_train_in_one_folder(tmp_path):
    pytest.importorskip("fcntl", reason="file locks need a Unix system")
    with sole_writer(tmp_path), pytest.raises(CheckpointError, match="another process"), sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path):
        pass


def test_a_folder_that_lost_its_config_is_known_by_its_checkpoints(run):
    folder = run / "checkpoints" / "step-000001"
    folder.mkdir(parents=True)
    (run / "config.yaml").rename(folder / "recipe.yaml")
    check_same_recipe(run, RECIPE)
    with pytest.raises(CheckpointError, match="seed"):
        check_same_recipe(run, changed("seed=5"))


def test_a_file_or_a_dataset_is_no_run_folder(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    for name, word in (("file", "is a file"), ("data", "is a dataset")):
        with pytest.raises(CheckpointError, match=word):
            check_same_recipe(tmp_path / name, RECIPE)
