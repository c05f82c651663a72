import json

import pytest
import torch

from openmiro.core.errors import DamagedFileError
from openmiro.train.trees import copy_to_cpu, flatten, unflatten


def test_an_optimizers_state_goes_through_json_and_back():
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.95))
    module(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    scalars, tensors = flatten(optimizer.state_dict())
    assert set(tensors) == {f"state.{i}.{name}" for i in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    again = unflatten(json.loads(json.dumps(scalars, allow_nan=False)), tensors)
    other = torch.optim.AdamW(module.parameters(), lr=1.0)
    other.load_state_dict(again)
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(other.state_dict()["state"][i][name], value)
    assert other.param_groups[0]["lr"] == 1e-3
    assert tuple(other.param_groups[0]["betas"]) == (0.9, 0.95)


def test_integer_and_text_keys_stay_apart():
    tree = {1: {"1": 2.5}, "a": [None, True, "x", 3], "empty": {}}
    scalars, tensors = flatten(tree)
    assert unflatten(json.loads(json.dumps(scalars)), tensors) == tree


def test_what_is_not_json_is_refused_with_its_path():
    with pytest.raises(TypeError, match=r"a\.0.*object"):
        flatten({"a": [object()]})


def test_a_missing_tensor_is_damage():
    scalars, _ = flatten({"a": torch.ones(1)})
    with pytest.raises(DamagedFileError, match="'a'"):
        unflatten(scalars, {})


def test_copies_share_no_memory_and_are_contiguous():
    whole = torch.arange(6.0).view(2, 3)
    copies = copy_to_cpu({"a": whole, "b": whole.T})
    whole.zero_()
    assert copies["a"].sum() == 15
    assert copies["b"].is_contiguous()
    assert copies["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
