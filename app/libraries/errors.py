"""What external libraries can refuse, as types; each text is for the person who asked."""

from __future__ import annotations


class LibraryError(Exception):
    """Base: what was asked cannot be done."""


class InvalidLibrary(LibraryError):
    """An import path or exclusion pattern may not be; the text names every fault."""


class UnknownLibrary(LibraryError):
    """There is no such library, or it is being removed."""


class ScanRunning(LibraryError):
    """The library is being scanned already."""
