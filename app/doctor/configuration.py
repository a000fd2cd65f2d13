"""Checks the settings by themselves, and collects their secrets. Accesses neither database nor storage."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from app.config import Settings, StorageEngine
from app.doctor.findings import ReportSection


def collect_secrets(settings: Settings) -> list[str]:
    """The secret texts of the settings, which no report may show."""
    db_url = settings.db_url.get_secret_value()
    try:
        password = urlsplit(db_url).password or ""
    except ValueError:
        password = ""
    secret_key = settings.s3_secret_access_key
    secrets = [
        password,
        unquote(password),
        secret_key.get_secret_value() if secret_key else "",
        settings.s3_access_key_id or "",
    ]
    return [text for text in secrets if text]


def check_configuration(section: ReportSection, settings: Settings) -> None:
    local = settings.storage_engine is StorageEngine.LOCAL
    section.ok("settings", f"new files go to {settings.media_location if local else f's3://{settings.s3_bucket}'}")
    if not settings.fsync:
        section.fail(
            "MEDIAVAULT_FSYNC", "false: photos that were acknowledged are lost by a power failure", "leave it out"
        )
    if settings.ignore_mount_check_errors:
        hint = "leave IMMICH_IGNORE_MOUNT_CHECK_ERRORS out once the media location is right"
        section.warn("mount checks", "switched off: nothing notices that a disk is not mounted", hint)
    if settings.s3_forbidden_is_missing:
        hint = "allow listing and leave MEDIAVAULT_S3_FORBIDDEN_IS_MISSING out, where the store lets you"
        section.warn("403 as missing", "wrong rights look like missing photos", hint)
