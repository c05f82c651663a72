"""A refactor keeps 50 losses of a tiny model.

On one machine the curve is bit-identical. Across CPUs it is not: vector units and math libraries add in other orders.
Measured with AVX-512, AVX2 and SSE code paths, losses differ by at most 2e-7 (AdamW) and 4e-6 (Muon, whose
orthogonalization runs in bf16), relative. The tolerances are a few ten times that, and far below what any change of
the computation makes: the last test shows how small a change they notice.
"""

import json

import pytest
from tests.golden import curves

TOLERANCE = {"dit-adamw": 1e-5, "dit-muon": 1e-4}


@pytest.mark.parametrize("name", sorted(curves.CURVES))
def test_the_curve_is_what_it_was(name, tmp_path):
    kept = json.loads(curves.path_of(name).read_text())
    assert kept["settings"] == list(curves.CURVES[name]), "the settings changed: run python tests/golden/curves.py"
    assert len(kept["losses"]) == 50
    assert curves.losses(name, tmp_path) == pytest.approx(kept["losses"], rel=TOLERANCE[name])


@pytest.mark.parametrize(
    "change", ["ema.half_life_images=1", "optimizer.weight_decay=0.02", "optimizer.learning_rate=1.002e-3", "seed=1"]
)
def test_what_changes_the_curve_is_noticed_and_what_does_not_is_not(change, tmp_path, monkeypatch):
    kept = json.loads(curves.path_of("dit-adamw").read_text())["losses"]
    monkeypatch.setitem(curves.CURVES, "dit-adamw", (*curves.CURVES["dit-adamw"], change))
    is_same = curves.losses("dit-adamw", tmp_path) == pytest.approx(kept, rel=TOLERANCE["dit-adamw"])
    assert is_same == change.startswith("ema")
