"""How long a source object is kept after its file was switched to the target: as long as requests or signed links may still use it."""

from __future__ import annotations

from datetime import timedelta

from app.config import S3Delivery, Settings, StorageEngine

SOURCE_RETENTION = timedelta(seconds=60)
"""A request that has read a path opens it, or looks it up again, within this time."""


def choose_source_retention(engine: StorageEngine, settings: Settings) -> timedelta:
    """The retention for sources on `engine`. A signed link is made from a path that was just read, and then stays valid for
    `s3_link_seconds`."""
    redirected = engine is StorageEngine.S3 and settings.s3_delivery is S3Delivery.REDIRECT
    return SOURCE_RETENTION + timedelta(seconds=settings.s3_link_seconds) if redirected else SOURCE_RETENTION
