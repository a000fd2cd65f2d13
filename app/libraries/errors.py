"""Errors of external libraries. The text of each is shown to the user who made the request."""

from __future__ import annotations


class LibraryError(Exception):
    """Base class: the request cannot be carried out."""


class InvalidLibrary(LibraryError):
    """An import path or exclusion pattern is not allowed; the text names every fault."""


class UnknownLibrary(LibraryError):
    """The library does not exist, or is being removed."""


class ScanRunning(LibraryError):
    """Another scan of the library is running."""


class ForeignLibrary(LibraryError):
    """Another program scans the library."""
