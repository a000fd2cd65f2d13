"""Objects as files in a local folder."""

from app.storage.local.backend import LocalBackend

__all__ = ["LocalBackend"]
