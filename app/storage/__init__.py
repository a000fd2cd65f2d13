"""Stored bytes: `StorageService`, which routes paths to backends, and the backends for local disk and S3.

Imports nothing of HTTP and nothing of the catalogue.
"""

from app.storage.opening import open_storage
from app.storage.service import StorageService

__all__ = ["StorageService", "open_storage"]
