"""What the settings themselves allow to be said."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from app.config import Settings, StorageEngine
from app.doctor.findings import ReportSection


def collect_secrets(settings: Settings) -> list[str]:
    """The texts of the settings that must not be shown."""
    db_url = settings.db_url.get_secret_value()
    try:
        password = urlsplit(db_url).password or ""
    except ValueError:
        password = ""
    secret = settings.s3_secret_access_key
    found = [password, unquote(password), secret.get_secret_value() if secret else "", settings.s3_access_key_id or ""]
    return [text for text in found if text]


def check_configuration(area: ReportSection, settings: Settings) -> None:
    local = settings.storage_engine is StorageEngine.LOCAL
    area.ok("settings", f"new files go to {settings.media_location if local else f's3://{settings.s3_bucket}'}")
    if not settings.fsync:
        area.fail(
            "MEDIAVAULT_FSYNC", "false: photos that were acknowledged are lost by a power failure", "leave it out"
        )
    if settings.ignore_mount_check_errors:
        hint = "leave IMMICH_IGNORE_MOUNT_CHECK_ERRORS out once the media location is right"
        area.warn("mount checks", "switched off: nothing notices that a disk is not mounted", hint)
    if settings.s3_forbidden_is_missing:
        hint = "allow listing and leave MEDIAVAULT_S3_FORBIDDEN_IS_MISSING out, where the store lets you"
        area.warn("403 as missing", "wrong rights look like missing photos", hint)
