"""Builds the records of rows, which are dictionaries from Immich's column names to values; absent columns are None. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from app.immich.source.records import (
    SourceAsset,
    SourceFile,
    SourceKey,
    SourceLibrary,
    SourcePerson,
    SourceSession,
    SourceUser,
)

Row = dict[str, Any]

_SHA256_BYTES = 32
_PATH_CHECKSUM = "sha1-path"


def build_user(row: Row) -> SourceUser:
    return SourceUser(
        id=row["id"],
        email=row["email"],
        name=row["name"] or row["email"],
        password=row["password"] or None,
        is_admin=bool(row["isAdmin"]),
        quota=row["quotaSizeInBytes"],
        quota_usage=row["quotaUsageInBytes"],
        profile_image_path=row["profileImagePath"] or None,
        profile_changed_at=row["profileChangedAt"],
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
        deleted_at=row["deletedAt"],
    )


def build_key(row: Row) -> SourceKey:
    return SourceKey(
        id=row["id"],
        user_id=row["userId"],
        name=row["name"] or "",
        key_hash=_parse_key_hash(row["key"]),
        permissions=tuple(map(str, row["permissions"] or ())),
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
    )


def build_session(row: Row) -> SourceSession:
    return SourceSession(
        id=row["id"],
        user_id=row["userId"],
        token_hash=_parse_key_hash(row["token"]),
        expires_at=row["expiresAt"],
        created_at=row["createdAt"],
        device_type=row["deviceType"] or "",
    )


def _parse_key_hash(stored: bytes | str | None) -> bytes | None:
    """The SHA-256, which older versions store as base64."""
    if isinstance(stored, str):
        try:
            stored = base64.b64decode(stored, validate=True)
        except (binascii.Error, ValueError):
            return None
    return bytes(stored) if stored is not None and len(stored) == _SHA256_BYTES else None


def build_library(row: Row) -> SourceLibrary:
    return SourceLibrary(
        id=row["id"],
        owner_id=row["ownerId"],
        name=row["name"] or "",
        import_paths=tuple(row["importPaths"] or ()),
        exclusion_patterns=tuple(row["exclusionPatterns"] or ()),
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
        deleted_at=row["deletedAt"],
    )


def build_person(row: Row) -> SourcePerson:
    return SourcePerson(
        id=row["id"],
        owner_id=row["ownerId"],
        name=row["name"] or None,
        thumbnail_path=row["thumbnailPath"] or None,
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
    )


def build_asset(row: Row) -> SourceAsset:
    exif = {name.removeprefix("exif."): value for name, value in row.items() if name.startswith("exif.")}
    is_external = bool(row["isExternal"]) or row["libraryId"] is not None
    algorithm = row["checksumAlgorithm"]
    return SourceAsset(
        id=row["id"],
        owner_id=row["ownerId"],
        type=str(row["type"]),
        original_path=row["originalPath"],
        original_file_name=row["originalFileName"],
        file_created_at=row["fileCreatedAt"],
        file_modified_at=row["fileModifiedAt"],
        local_date_time=row["localDateTime"],
        created_at=row["createdAt"],
        updated_at=row["updatedAt"],
        deleted_at=row["deletedAt"],
        checksum=bytes(row["checksum"]),
        is_path_checksum=is_external if algorithm is None else str(algorithm) == _PATH_CHECKSUM,
        is_favorite=bool(row["isFavorite"]),
        visibility=str(row["visibility"] or "timeline"),
        status=str(row["status"] or "active"),
        is_offline=bool(row["isOffline"]),
        is_external=is_external,
        library_id=row["libraryId"],
        live_photo_video_id=row["livePhotoVideoId"],
        duration=row["duration"],
        width=row["width"],
        height=row["height"],
        thumbhash=None if row["thumbhash"] is None else bytes(row["thumbhash"]),
        device_asset_id=row["deviceAssetId"],
        device_id=row["deviceId"],
        exif=exif if exif.pop("assetId", None) is not None else None,
        files=_list_former_files(row),
    )


def _list_former_files(row: Row) -> list[SourceFile]:
    """Files that older versions name in the row of the asset."""
    former = (("sidecar", row["sidecarPath"]), ("encoded_video", row["encodedVideoPath"]))
    return [SourceFile(type_, path, is_edited=False) for type_, path in former if path]
