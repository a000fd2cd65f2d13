"""Errors of the takeover. The message of each is one line for the person at the terminal."""

from __future__ import annotations


class ImmichError(Exception):
    """Base of all errors of this package."""


class SourceUnavailable(ImmichError):
    """Immich's database refuses the connection, has broken it off, or denies a statement."""


class NotImmich(ImmichError):
    """The database lacks a table or a column without which nothing can be read."""


class InvalidMediaRoot(ImmichError):
    """`--media-root` is malformed, no folder, or overlaps the media location of this service."""


class ImportRefused(ImmichError):
    """The installation is in a state in which nothing is imported; the message says what to do."""
