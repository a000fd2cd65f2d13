"""The storage backend for a local folder: one file per object."""

from app.storage.local.backend import LocalBackend

__all__ = ["LocalBackend"]
