"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SHARED = Path(os.environ.get("OPENMIRO_SHARED") or Path(__file__).parents[2] / "shared")
"""Material for development that is not part of the project."""


@pytest.fixture(scope="session")
def real_shard():
    """A tar of 32 real photo-caption pairs."""
    path = SHARED / "data" / "cc12m-real-0000.tar"
    if not path.exists():
        pytest.skip(f"no real photos: {path.name} is not in the folder of shared material (set OPENMIRO_SHARED)")
    return path
