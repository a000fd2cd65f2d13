"""Settings of external libraries: time of scans, watching, polling."""

from __future__ import annotations

import re

from pydantic import field_validator
from pydantic_settings import BaseSettings

from app.config.fields import setting


class LibrarySettings(BaseSettings):
    library_scan_at: str = setting(
        "MEDIAVAULT_LIBRARY_SCAN_AT",
        "00:00",
        "Local time at which all external libraries are scanned every day, such as 03:30; off for never.",
    )
    library_watch: bool = setting(
        "MEDIAVAULT_LIBRARY_WATCH", False, "Follow changes in external libraries as they happen."
    )
    library_settle_seconds: float = setting(
        "MEDIAVAULT_LIBRARY_SETTLE_SECONDS",
        5.0,
        "How long a file in a watched library must rest before it is taken in.",
        ge=0.1,
        le=3600,
    )
    library_poll_seconds: float = setting(
        "MEDIAVAULT_LIBRARY_POLL_SECONDS",
        60.0,
        "How often a library is looked through that is to be watched and cannot be.",
        ge=0.1,
        le=86400,
    )

    @field_validator("library_scan_at")
    @classmethod
    def _validate_time_of_day(cls, value: str) -> str:
        if value != "off" and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("is neither a time such as 03:30 nor off")
        return value
