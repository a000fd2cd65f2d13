"""What a long step tells about itself while it works; what becomes of that (bars, lines, nothing) is the caller's affair."""

from __future__ import annotations

from typing import Protocol


class MoveProgress(Protocol):
    def begin(self, title: str, files: int, size: int) -> None:
        """A step of so many files and bytes begins; the one before is over."""
        ...

    def advance(self, size: int) -> None:
        """So many bytes more are done."""
        ...

    def done(self, size: int) -> None:
        """A file is done, well or not, of which `size` bytes have not been told yet."""
        ...

    def say(self, line: str) -> None:
        """Something that a person would want to know."""
        ...


class SilentProgress:
    """Tells nobody."""

    def begin(self, title: str, files: int, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def done(self, size: int) -> None: ...

    def say(self, line: str) -> None: ...
