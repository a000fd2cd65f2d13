"""Checks the settings by themselves, and collects their secrets. Accesses neither database nor stored files."""

from __future__ import annotations

import stat
from pathlib import Path
from pwd import getpwuid
from urllib.parse import unquote, urlsplit

from app.config import OffloadMode, S3Delivery, Settings, StorageEngine
from app.doctor.findings import ReportSection, format_size


def collect_secrets(settings: Settings) -> list[str]:
    """The secret texts of the settings, which no report may show."""
    db_url = settings.db_url.get_secret_value()
    try:
        password = urlsplit(db_url).password or ""
    except ValueError:
        password = ""
    secret_key = settings.s3_secret_access_key
    offload_secret = settings.offload_secret
    secrets = [
        password,
        unquote(password),
        secret_key.get_secret_value() if secret_key else "",
        settings.s3_access_key_id or "",
        offload_secret.get_secret_value() if offload_secret else "",
    ]
    return [text for text in secrets if text]


def check_front_server(section: ReportSection, settings: Settings) -> None:
    """Checks what the settings tell about a front server that sends files. Its own configuration is not known here. Blocking, for a moment."""
    mode = settings.offload
    if mode is OffloadMode.OFF:
        return
    section.ok(
        "front server", f"{mode} for {settings.trusted_proxies}, from {format_size(settings.offload_minimum)} on"
    )
    if settings.storage_engine is StorageEngine.LOCAL or settings.media_location.is_dir():
        _check_file_access(section, settings.media_location)
    elif mode is OffloadMode.X_SENDFILE:
        section.warn(
            "front server and S3", "files in S3 are sent from here", "MEDIAVAULT_OFFLOAD=x-accel has nginx fetch them"
        )
    if settings.cache_folder is not None and settings.s3_bucket and mode is OffloadMode.X_ACCEL:
        section.ok("front server and cache", "files in S3 are sent from here, by the cache")
    if settings.s3_delivery is S3Delivery.REDIRECT and settings.s3_bucket:
        section.warn(
            "front server and S3",
            "files in S3 are not sent by it, but redirected to",
            "S3_DELIVERY is redirect: leave it out",
        )


def _check_file_access(section: ReportSection, folder: Path) -> None:
    """Whether other users may enter the folder. An access control list shows as rights of the group."""
    try:
        status = folder.stat()
    except OSError:
        return  # another check tells
    if status.st_mode & (stat.S_IXGRP | stat.S_IXOTH):
        section.ok("front server's access", f"{folder} may be entered by others")
        return
    try:
        owner = getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    hint = "run it as this user too, or give it the right with setfacl (see docs/proxies.md)"
    section.warn("front server's access", f"only the user {owner} may enter {folder}", hint)


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
