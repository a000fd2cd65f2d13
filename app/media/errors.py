"""Why a file could not be processed, as types. Each carries one line for people, and whether trying again may help."""

from __future__ import annotations

MAX_REASON = 300
"""Characters of a reason that are kept: it ends in the catalogue and on a page."""


class MediaError(Exception):
    """Base of all. `reason` is one line without control characters; `retryable`: the file may be fine, the moment was not."""

    retryable = False

    def __init__(self, reason: str) -> None:
        self.reason = to_one_line(reason)
        super().__init__(self.reason)


class DecodeFailed(MediaError):
    """The file is damaged, or is not what its name says."""


class LimitExceeded(MediaError):
    """More pixels, frames, memory, processor time or output than is permitted."""


class ProcessingTimedOut(MediaError):
    """It took longer than permitted. The machine may have been busy."""

    retryable = True


class WorkerCrashed(MediaError):
    """The process that worked on it died, or answered with something else than a result."""

    retryable = True


class SourceUnreadable(MediaError):
    """The disk that the original lies on did not give it. That is no fault of the file's."""

    retryable = True


class MissingTool(MediaError):
    """A program or an optional package that this format needs is not installed."""


class MediaDiskFull(MediaError):
    """The folder for the results, or the quota on it, has no room."""

    retryable = True


def to_one_line(text: str) -> str:
    """`text` with every run of white space and control characters as one space, cut to `MAX_REASON`."""
    printable = "".join(character if character.isprintable() else " " for character in text[: MAX_REASON * 4])
    return " ".join(printable.split())[:MAX_REASON]
