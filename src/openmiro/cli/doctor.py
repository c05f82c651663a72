"""`openmiro doctor`: what works on this machine, and how to get the rest."""

from __future__ import annotations

from dataclasses import dataclass

import typer


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: `remedy` says what to type where `works` is False."""

    what: str
    works: bool
    detail: str
    remedy: str = ""


def doctor() -> None:
    """Say what works on this machine and how to get the rest.

    Example: openmiro doctor
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title="openmiro doctor", title_justify="left")
    for column in ("", "what", "found", "to get it"):
        table.add_column(column)
    findings = diagnose()
    for finding in findings:
        mark = "[green]ok[/green]" if finding.works else "[yellow]--[/yellow]"
        table.add_row(mark, finding.what, finding.detail, finding.remedy)
    Console().print(table)
    if not all(f.works for f in findings if f.what in ("Python", "PyTorch")):
        raise typer.Exit(1)


def diagnose() -> list[Finding]:
    """Every finding, in the order in which a user needs them."""
    return [*_basics(), *_arithmetic(), *_extras(), *_rewards(), *_disk()]


def _basics() -> list[Finding]:
    import os
    import platform
    import sys

    import torch

    return [
        Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer"),
        Finding("PyTorch", True, torch.__version__),
        Finding("cores", True, f"{os.cpu_count()} ({torch.get_num_threads()} threads in use)"),
        Finding(
            "CUDA",
            torch.cuda.is_available(),
            torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device: everything runs on the CPU",
        ),
    ]


def _arithmetic() -> list[Finding]:
    from openmiro.train.precision import cpu_bf16_speedup

    speedup = cpu_bf16_speedup()
    fast = speedup > 1.2
    detail = f"matrix products at {speedup:.1f} times the speed of fp32"
    return [Finding("bf16 on the CPU", fast, detail, "" if fast else "nothing to do: fp32 is used here")]


def _extras() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    findings = []
    for package, extra, purpose in (
        ("matplotlib", "report", "figures and report.html"),
        ("jinja2", "report", "report.html"),
        ("tensorboard", "track", "TensorBoard metrics"),
        ("transformers", "models", "T5 and other text encoders"),
        ("diffusers", "models", "AutoencoderKL latents"),
    ):
        try:
            findings.append(Finding(f"{package} ({purpose})", True, version(package)))
        except PackageNotFoundError:
            remedy = f"pip install 'openmiro\\[{extra}]'"
            findings.append(Finding(f"{package} ({purpose})", False, "not installed", remedy))
    return findings


def _rewards() -> list[Finding]:
    from openmiro.core.errors import OpenMiroError
    from openmiro.rewards.catalog import CATALOG, load_reward

    findings = []
    for name in CATALOG.names():
        try:
            spec = load_reward(name).spec
            findings.append(Finding(f"reward {name}", True, f"{spec.unit}, {spec.license}"))
        except OpenMiroError as error:
            findings.append(Finding(f"reward {name}", False, "cannot be loaded", str(error)))
    return findings


def _disk() -> list[Finding]:
    import shutil

    free = shutil.disk_usage(".").free / 2**30
    return [
        Finding("disk space here", free > 2, f"{free:.0f} GiB free", "" if free > 2 else "the lab needs about 1 GiB")
    ]
