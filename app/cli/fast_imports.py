"""Quick imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def import_without_gc() -> Iterator[None]:
    """For imports. What modules bring with them stays for as long as the program runs: to look for garbage meanwhile finds none and is a
    quarter of a start, and every look through all of it later on would stop a service for a tenth of a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
