"""How long an object stays after its file has moved away from it: for as long as somebody may have been told to fetch it there."""

from __future__ import annotations

from datetime import timedelta

from app.config import S3Delivery, Settings, StorageEngine

SOURCE_RETENTION = timedelta(seconds=60)
"""Whoever has just read a path uses it, or reads it again, within this time."""


def choose_source_retention(engine: StorageEngine, settings: Settings) -> timedelta:
    """After files have moved away from `engine`. A signed link is made of a path that was just read, and then works for its own time."""
    redirected = engine is StorageEngine.S3 and settings.s3_delivery is S3Delivery.REDIRECT
    return SOURCE_RETENTION + timedelta(seconds=settings.s3_link_seconds) if redirected else SOURCE_RETENTION
