"""Selects the file, file name or redirect for a rendition of an asset, and the error if there is none.

Decides as Immich does. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.catalog.assets.rendition_lookup import AssetRenditions, ProcessingState
from app.catalog.schema.records import Asset, AssetType, File, FileKind, TaskState, Visibility
from app.formats import WEB_IMAGE_TYPES, WEB_VIDEO_TYPES

MIN_RETRY_AFTER = timedelta(seconds=2)
"""Bounds of `Retry-After` for a derivative that is still being made."""
MAX_RETRY_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, eq=False)
class Rendition:
    """A form in which an asset, person or user is requested: the original or a derivative of kind `file_kind`.

    `not_found_message` answers a caller if the item does not exist or belongs to another user. Each rendition exists once and is
    compared by identity.
    """

    name: str
    file_kind: FileKind
    permission: Permission
    not_found_message: str = "Asset not found"


ORIGINAL = Rendition("original", FileKind.ORIGINAL, Permission.ASSET_DOWNLOAD)
THUMBNAIL = Rendition("thumbnail", FileKind.THUMBNAIL, Permission.ASSET_VIEW)
PREVIEW = Rendition("preview", FileKind.PREVIEW, Permission.ASSET_VIEW)
FULLSIZE = Rendition("fullsize", FileKind.FULLSIZE, Permission.ASSET_VIEW)
PLAYBACK = Rendition("playback", FileKind.ENCODED_VIDEO, Permission.ASSET_VIEW)
ASSET_RENDITIONS = (ORIGINAL, THUMBNAIL, PREVIEW, FULLSIZE, PLAYBACK)

PERSON_THUMBNAIL = Rendition("person", FileKind.PERSON, Permission.PERSON_READ, "Person not found")
PROFILE_IMAGE = Rendition("profile", FileKind.PROFILE, Permission.USER_PROFILE_IMAGE_READ, "There is no profile image")

_SIZES = {rendition.name: rendition for rendition in (THUMBNAIL, PREVIEW, FULLSIZE)}


@dataclass(frozen=True, slots=True)
class ServedFile:
    """The file to send, and the file name of the download. `is_locked`: its asset is; see `Identity.sees_locked`."""

    owner_id: UUID
    file: File
    filename: str
    last_modified: datetime
    library_id: UUID | None = None
    is_locked: bool = False


@dataclass(frozen=True, slots=True)
class RenditionRedirect:
    """Another URL of the same asset serves the rendition: its last path segment, and the `size` parameter, if any. `is_locked` as in
    `ServedFile`."""

    owner_id: UUID
    path_suffix: str
    size: str | None
    is_locked: bool = False


class RenditionMissing(Exception):
    """The asset exists, but the file does not (yet). `refusal` is the response to the owner; other callers get "asset not found".
    `is_locked` as in `ServedFile`."""

    def __init__(self, asset: Asset, refusal: ApiError) -> None:
        self.owner_id = asset.owner_id
        self.is_locked = asset.visibility is Visibility.LOCKED
        self.refusal = refusal
        super().__init__(refusal.message)


def parse_thumbnail_size(size: str | None) -> Rendition:
    """The rendition for `/thumbnail?size=…`. Raises `ApiError` 400 for an unknown size."""
    if size is None:
        return THUMBNAIL
    if size == ORIGINAL.name:
        raise ApiError(400, "May not request original file")
    if size not in _SIZES:
        raise ApiError(400, f"size: is none of {', '.join(_SIZES)}")
    return _SIZES[size]


def serve_original(asset: Asset) -> ServedFile:
    # Last-Modified must not be in the future, even if the uploader's clock is wrong (RFC 9110 section 8.8.2.1).
    last_modified = min(asset.file_modified_at, asset.file.created_at)
    name, is_locked = asset.original_file_name, asset.visibility is Visibility.LOCKED
    return ServedFile(asset.owner_id, asset.file, name, last_modified, asset.library_id, is_locked)


def select_file(renditions: AssetRenditions, rendition: Rendition, moment: datetime) -> ServedFile | RenditionRedirect:
    """The file or redirect for `rendition`; `moment` is the current time. Raises `RenditionMissing`."""
    asset, derivative = renditions.asset, renditions.files.get(rendition.file_kind)
    is_locked = asset.visibility is Visibility.LOCKED
    if rendition is ORIGINAL:
        return serve_original(asset)
    if rendition is FULLSIZE and derivative is None:
        if asset.file.mime_type in WEB_IMAGE_TYPES:
            return RenditionRedirect(asset.owner_id, ORIGINAL.name, None, is_locked)
        return RenditionRedirect(asset.owner_id, THUMBNAIL.name, PREVIEW.name, is_locked)
    if rendition is PLAYBACK:
        if asset.type is not AssetType.VIDEO:
            raise RenditionMissing(asset, ApiError(404, "Asset media not found"))
        if derivative is None and _is_web_video(renditions):
            return serve_original(asset)
    if derivative is None:
        raise RenditionMissing(asset, _build_missing_error(renditions.processing, moment))
    name = _build_file_name(asset, rendition, derivative)
    return ServedFile(asset.owner_id, derivative, name, derivative.created_at, is_locked=is_locked)


def _is_web_video(renditions: AssetRenditions) -> bool:
    """Whether browsers play the original. They do if processing is done and made no playable version; before that only its
    type tells."""
    if renditions.processing is not None and renditions.processing.state is TaskState.DONE:
        return True
    return renditions.asset.file.mime_type in WEB_VIDEO_TYPES


def _build_missing_error(processing: ProcessingState | None, moment: datetime) -> ApiError:
    message = "Asset media not found"
    if processing is None or processing.state is TaskState.DONE:
        return ApiError(404, message)
    if processing.state is TaskState.FAILED:
        return ApiError(404, message, detail=f"It could not be made: {processing.error}")
    wait = (
        MIN_RETRY_AFTER
        if processing.state is TaskState.RUNNING
        else min(max(processing.not_before - moment, MIN_RETRY_AFTER), MAX_RETRY_AFTER)
    )
    return ApiError(404, message, detail="It is being made", headers={"retry-after": str(ceil(wait.total_seconds()))})


def _build_file_name(asset: Asset, rendition: Rendition, file: File) -> str:
    stem = asset.original_file_name.rpartition(".")[0] or asset.original_file_name
    extension = file.path[file.path.rfind(".") :]
    return f"{stem}{extension}" if rendition is PLAYBACK else f"{stem}_{rendition.name}{extension}"
