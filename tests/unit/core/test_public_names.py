import subprocess
import sys

import pytest

import openmiro


@pytest.mark.parametrize("name", openmiro.__all__)
def test_from_import_gives_the_object(name):
    code = f"from openmiro import {name}; assert callable({name}), {name}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        openmiro.nothing_here  # noqa: B018
