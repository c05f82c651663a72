"""Every command explains itself with an example."""

import pytest
from tests.e2e.commands import succeed

COMMANDS = [
    ("data", "synth"),
    ("data", "verify"),
    ("data", "stats"),
    ("annotate",),
    ("encode",),
    ("levels", "fit"),
    ("levels", "show"),
    ("train",),
    ("sample",),
    ("report",),
    ("quickstart",),
    ("doctor",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command):
    assert f"Example: openmiro {' '.join(command)}" in " ".join(succeed(*command, "--help").out.split())


def test_version():
    assert succeed("--version").out.startswith("openmiro 0.")


def test_doctor_names_what_works_and_what_is_missing():
    printed = succeed("doctor").out
    for word in ("Python", "PyTorch", "CUDA", "bf16", "colorfulness", "disk"):
        assert word in printed
