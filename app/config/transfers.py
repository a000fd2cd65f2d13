"""Settings of uploads and downloads: size, number at once, idle time, minimum rate, unfinished uploads."""

from __future__ import annotations

from datetime import timedelta

from pydantic_settings import BaseSettings

from app.config.fields import GIBIBYTE, setting


class TransferSettings(BaseSettings):
    upload_limit: int = setting("MEDIAVAULT_UPLOAD_LIMIT", 64 * GIBIBYTE, "Largest upload.", ge=1)
    upload_idle_seconds: float = setting(
        "MEDIAVAULT_UPLOAD_IDLE_SECONDS",
        60.0,
        "An upload that sends nothing for so long is given up.",
        gt=0,
        allow_inf_nan=False,
    )
    upload_minimum_rate: int = setting(
        "MEDIAVAULT_UPLOAD_MINIMUM_RATE",
        512,
        "Bytes per second, averaged over a minute, below which an upload is given up.",
        ge=0,
    )
    upload_expires_hours: float = setting(
        "MEDIAVAULT_UPLOAD_EXPIRES",
        24.0,
        "Hours after its last byte until an unfinished resumable upload is deleted.",
        gt=0,
        le=24 * 365,
        allow_inf_nan=False,
    )
    upload_sessions: int = setting(
        "MEDIAVAULT_UPLOAD_SESSIONS", 1000, "Most unfinished resumable uploads of one user.", ge=1
    )
    uploads: int = setting(
        "MEDIAVAULT_UPLOADS",
        256,
        "Most requests that upload bytes at once; one more is answered with 503. Like the next three, for each serving process.",
        ge=1,
    )
    uploads_per_user: int = setting(
        "MEDIAVAULT_UPLOADS_PER_USER", 64, "The same of one user; one more is answered with 429.", ge=1
    )
    downloads_per_user: int = setting(
        "MEDIAVAULT_DOWNLOADS_PER_USER",
        200,
        "Most answers of more than 256 KiB that are sent to one user at once; one more is answered with 429.",
        ge=1,
    )
    archives_per_user: int = setting(
        "MEDIAVAULT_ARCHIVES_PER_USER",
        32,
        "Most zips, or parts of a zip, that are sent to one user or over one download link at once; one more is answered with 429.",
        ge=1,
    )
    download_idle_seconds: float = setting(
        "MEDIAVAULT_DOWNLOAD_IDLE_SECONDS",
        60.0,
        "An answer of which the client takes nothing for so long is cut off.",
        gt=0,
        allow_inf_nan=False,
    )
    download_minimum_rate: int = setting(
        "MEDIAVAULT_DOWNLOAD_MINIMUM_RATE",
        512,
        "Bytes per second, averaged over a minute of waiting for the client, below which an answer is cut off.",
        ge=0,
    )

    @property
    def upload_lifetime(self) -> timedelta:
        return timedelta(hours=self.upload_expires_hours)
