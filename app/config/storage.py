"""Settings of the media location: engine, local folder, durability, trash."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic_settings import BaseSettings

from app.config.fields import AbsolutePath, setting


class StorageEngine(StrEnum):
    LOCAL = "local"
    S3 = "s3"


class StorageSettings(BaseSettings):
    storage_engine: StorageEngine = setting(
        "IMMICH_STORAGE_ENGINE", StorageEngine.LOCAL, "Where new files go: local or s3."
    )
    media_location: AbsolutePath = setting(
        "IMMICH_MEDIA_LOCATION", Path("./data/media"), "The local media folder; stays set after a move to S3."
    )
    fsync: bool = setting(
        "MEDIAVAULT_FSYNC", True, "Local writes survive a power loss. Only ever turn it off for tests."
    )
    foreign_reads: StorageEngine = setting(
        "MEDIAVAULT_FOREIGN_READS",
        StorageEngine.LOCAL,
        "Where foreign files that have a copy are read first: local or s3; from the other place while that one is away.",
    )
    ignore_mount_check_errors: bool = setting(
        "IMMICH_IGNORE_MOUNT_CHECK_ERRORS",
        False,
        "Start although a media folder looks unmounted or belongs to another installation.",
    )
    trash_days: int = setting(
        "MEDIAVAULT_TRASH_DAYS", 30, "Days after which what is in the trash is removed; 0 keeps it.", ge=0
    )
