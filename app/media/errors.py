"""Exceptions of media processing. Each carries a one-line reason for people and says whether a retry may help."""

from __future__ import annotations

MAX_REASON = 300
"""Characters of a reason that are kept, because reasons are stored in the catalogue and shown on a page."""


class MediaError(Exception):
    """Base class. `reason` is one line without control characters. `retryable` is True where the cause may be temporary and the file intact."""

    retryable = False

    def __init__(self, reason: str) -> None:
        self.reason = to_one_line(reason)
        super().__init__(self.reason)


class DecodeFailed(MediaError):
    """The file is damaged, or its content is not of the type that its name says."""


class LimitExceeded(MediaError):
    """More pixels, frames, memory, processor time or output than is permitted."""


class ProcessingTimedOut(MediaError):
    """Processing took longer than permitted. Retryable, because the machine may have been busy."""

    retryable = True


class WorkerCrashed(MediaError):
    """The worker process died, or its answer is not a valid result."""

    retryable = True


class SourceUnreadable(MediaError):
    """The file system of the original failed to read it. The file itself may be intact."""

    retryable = True


class MissingTool(MediaError):
    """A program or an optional package that the format needs is not installed."""


class MediaDiskFull(MediaError):
    """The folder for the results is on a full disk or over its quota."""

    retryable = True


def to_one_line(text: str) -> str:
    """Replace every run of white space and control characters by one space, and cut the text to `MAX_REASON` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text[: MAX_REASON * 4])
    return " ".join(printable.split())[:MAX_REASON]
