"""Errors of the takeover. The message of each is one line for the person at the terminal."""

from __future__ import annotations


class ImmichError(Exception):
    """Base of all errors of this package."""


class NotReady(ImmichError):
    """A state that passes, as Immich or its database restarts, or a disk is mounted: `follow` reports it, and looks again later."""


class SourceUnavailable(NotReady):
    """Immich's database refuses the connection, has broken it off, or denies a statement."""


class NotImmich(ImmichError):
    """The database lacks a table or a column without which nothing can be read."""


class InvalidMediaRoot(ImmichError):
    """`--media-root` is malformed, no folder, or overlaps the media location of this service."""


class MediaRootAbsent(InvalidMediaRoot, NotReady):
    """The folder of `--media-root` is not there: it may be below a disk that is not mounted."""


class MarkerMissing(ImmichError):
    """A folder of Immich's has no marker: it is not mounted, or it is another one."""


class ImportRefused(ImmichError):
    """The installation is in a state in which nothing is imported; the message says what to do."""


class MovesUnfinished(ImportRefused, NotReady):
    """Immich moves files, or was interrupted in that: which of two paths holds a file is not known."""


class NotMounted(ImportRefused, NotReady):
    """Immich's folders, or its markers in them, are not there."""


class AnotherRun(ImportRefused, NotReady):
    """Another process takes over what Immich holds."""
