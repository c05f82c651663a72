"""How many cores there are, and processes that keep to their share of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def spawn_environment(threads: int) -> Iterator[None]:
    """Processes that are spawned in this context use so many arithmetic threads.

    Arithmetic libraries read these variables once, when they are loaded, so a spawned process must inherit them.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
