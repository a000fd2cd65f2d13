"""`MoveProgress`: receives the progress of a long step. Bars and lines are the caller's implementation."""

from __future__ import annotations

from typing import Protocol


class MoveProgress(Protocol):
    def begin(self, title: str, files: int, size: int) -> None:
        """A step with `files` files and `size` bytes begins; the previous one has ended."""
        ...

    def advance(self, size: int) -> None:
        """`size` more bytes are done."""
        ...

    def done(self, size: int) -> None:
        """A file has ended, successfully or not; `size` is the rest of its bytes that `advance` was not called for."""
        ...

    def say(self, line: str) -> None:
        """Show a line of text to the user."""
        ...


class SilentProgress:
    """Discards all progress."""

    def begin(self, title: str, files: int, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def done(self, size: int) -> None: ...

    def say(self, line: str) -> None: ...
