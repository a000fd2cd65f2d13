"""Where objects live: the service that routes paths, and the backends below it. Knows no HTTP and no catalogue."""

from app.storage.service import StorageService, open_storage

__all__ = ["StorageService", "open_storage"]
