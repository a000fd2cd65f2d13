"""Lines that a test adds to the summary at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]
