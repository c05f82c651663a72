"""One error tree. A message says what is wrong, where, and what to write instead.

Everything a user can cause derives from `OpenMiroError`; the command line prints its message without a
traceback and exits with `exit_code`. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
"""Bad input: the command did nothing that a corrected call would not do again."""
EXIT_BUDGET_EXCEEDED = 3
"""The work was done, but more rows were rejected than the budget allows."""
EXIT_INTERRUPTED = 75
"""Stopped by a signal after saving (EX_TEMPFAIL of sysexits.h): run the same command again to go on."""


class OpenMiroError(Exception):
    """Base of every error that a user's input, data or machine can cause."""

    exit_code = EXIT_USER_ERROR


class ConfigError(OpenMiroError):
    """A recipe, an override or an option has a wrong key or value."""


class UnknownNameError(ConfigError):
    """A name that is not among the choices; the message lists them, nearest first.

    Args:
        kind: what the name was meant to be, such as ``"reward"``.
        name: what was given.
        choices: every valid name.
        hint: a closing sentence, such as the command that lists the choices.
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.choices = kind, name, sorted(choices)
        nearest = difflib.get_close_matches(name, self.choices, n=1, cutoff=0.5)
        suggestion = f" Did you mean '{nearest[0]}'?" if nearest else ""
        listing = ", ".join(self.choices) if self.choices else "none"
        super().__init__(f"unknown {kind} '{name}'.{suggestion} Choices: {listing}.{' ' + hint if hint else ''}")


class MissingExtraError(OpenMiroError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, needed_for: str, module: str, extra: str) -> None:
        super().__init__(f"{needed_for} needs the package '{module}'. Install it with: pip install 'openmiro[{extra}]'")


class DataError(OpenMiroError):
    """A source, a dataset or one of its rows cannot be used."""


class MissingFileError(DataError):
    """A file or folder that a command needs does not exist."""


class DamagedFileError(DataError):
    """A file's bytes are not what its record says: truncated, altered, or not of its format."""


class ProvenanceError(DataError):
    """An artifact was made from other data or by another producer than the one at hand."""


class BudgetExceededError(DataError):
    """More rows were rejected than the bad-row budget allows. What could be done is on disk."""

    exit_code = EXIT_BUDGET_EXCEEDED


class DiskFullError(DataError):
    """The disk filled up while writing. Earlier commits are intact; free space and run again."""


class TargetError(OpenMiroError):
    """A reward target is out of range, of the wrong length, or cannot be converted to a level."""


class CheckpointError(OpenMiroError):
    """A checkpoint is missing, incomplete, or does not fit the model."""


class NonFiniteLossError(OpenMiroError):
    """The training loss became NaN or infinite; the message carries sample keys and noise levels."""


class InterruptedTrainingError(OpenMiroError):
    """Training was asked to stop (SIGTERM, SIGUSR1, Ctrl-C) and saved a checkpoint first."""

    exit_code = EXIT_INTERRUPTED
