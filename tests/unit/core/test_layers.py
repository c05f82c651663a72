"""What must stay true of the package as a whole."""

import subprocess
import sys

HEAVY = ("torch", "diffusers", "transformers", "gradio", "ray", "matplotlib", "pyarrow", "numpy")


def test_importing_the_command_line_imports_no_heavy_package():
    code = f"import sys, openmiro.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
