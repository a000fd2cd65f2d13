"""Type of the fixture `note`, which adds a line to the summary at the end of the run."""

from __future__ import annotations

from collections.abc import Callable

Note = Callable[[str], None]
