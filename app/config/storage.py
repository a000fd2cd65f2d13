"""Settings of the media location: engine, local folder, durability, trash."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic_settings import BaseSettings

from app.config.fields import GIBIBYTE, MEBIBYTE, AbsolutePath, setting


class StorageEngine(StrEnum):
    LOCAL = "local"
    S3 = "s3"


class CacheOriginals(StrEnum):
    """Which files the cache holds besides thumbnails and previews: originals and playable videos."""

    NEVER = "never"
    SECOND = "second"
    ALWAYS = "always"


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
    cache_folder: AbsolutePath | None = setting(
        "MEDIAVAULT_CACHE_FOLDER",
        None,
        "A local folder that caches what is sent from S3; no cache when unset.",
    )
    cache_size: int = setting(
        "MEDIAVAULT_CACHE_SIZE", 10 * GIBIBYTE, "Most bytes that the cache takes there.", ge=256 * MEBIBYTE
    )
    cache_reserve: int = setting(
        "MEDIAVAULT_CACHE_RESERVE", GIBIBYTE, "Bytes that the cache leaves free on that disk.", ge=0
    )
    cache_originals: CacheOriginals = setting(
        "MEDIAVAULT_CACHE_ORIGINALS",
        CacheOriginals.SECOND,
        "Originals and videos in the cache: never, second (from the second request on) or always. Thumbnails and previews always are.",
    )
