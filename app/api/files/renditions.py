"""What the addresses of assets, persons and users give: which file, under which name, and what else where there is none.

Decides as Immich does, and does no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.catalog.assets.rendition_lookup import AssetRenditions, ProcessingState
from app.catalog.schema.records import Asset, AssetType, File, FileKind, TaskState
from app.formats import MediaKind, find_format

MIN_RETRY_AFTER = timedelta(seconds=2)
"""When to ask again for what is being made."""
MAX_RETRY_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, eq=False)
class Rendition:
    """One way to see something. `file_kind`: which file that is; `not_found_message`: what a caller is told who asks for what is not there, or not
    theirs. Each exists once, and is compared by identity."""

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
    """The file that is sent, and the name that it is given."""

    owner_id: UUID
    file: File
    filename: str
    last_modified: datetime
    library_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class RenditionRedirect:
    """Another address of the same asset gives it: the last part of that address, and the size to ask for there, if any."""

    owner_id: UUID
    path_suffix: str
    size: str | None


class RenditionMissing(Exception):
    """There is no such file (yet). `refusal` is for the owner; others are told that there is no such asset."""

    def __init__(self, owner_id: UUID, refusal: ApiError) -> None:
        self.owner_id = owner_id
        self.refusal = refusal
        super().__init__(refusal.message)


def parse_thumbnail_size(size: str | None) -> Rendition:
    """What `/thumbnail?size=…` asks for. Raises 400."""
    if size is None:
        return THUMBNAIL
    if size == ORIGINAL.name:
        raise ApiError(400, "May not request original file")
    if size not in _SIZES:
        raise ApiError(400, f"size: is none of {', '.join(_SIZES)}")
    return _SIZES[size]


def serve_original(asset: Asset) -> ServedFile:
    # Not later than now, whatever the uploader's clock said (RFC 9110 section 8.8.2.1).
    last_modified = min(asset.file_modified_at, asset.file.created_at)
    return ServedFile(asset.owner_id, asset.file, asset.original_file_name, last_modified, asset.library_id)


def select_file(pictures: AssetRenditions, rendition: Rendition, moment: datetime) -> ServedFile | RenditionRedirect:
    """Raises `RenditionMissing`."""
    asset, made = pictures.asset, pictures.files.get(rendition.file_kind)
    if rendition is ORIGINAL:
        return serve_original(asset)
    if rendition is FULLSIZE:
        if _is_web_image(asset):
            return RenditionRedirect(asset.owner_id, ORIGINAL.name, None)
        if made is None:
            return RenditionRedirect(asset.owner_id, THUMBNAIL.name, PREVIEW.name)
    if rendition is PLAYBACK:
        if asset.type is not AssetType.VIDEO:
            raise RenditionMissing(asset.owner_id, ApiError(404, "Asset media not found"))
        if made is None and _is_web_video(pictures):
            return serve_original(asset)
    if made is None:
        raise RenditionMissing(asset.owner_id, _build_missing_error(pictures.processing, moment))
    return ServedFile(asset.owner_id, made, _build_file_name(asset, rendition, made), made.created_at)


def _is_web_image(asset: Asset) -> bool:
    known = find_format(asset.original_file_name) or find_format(asset.file.path)
    return known is not None and known.kind is MediaKind.IMAGE and known.is_web_supported


def _is_web_video(pictures: AssetRenditions) -> bool:
    """Once it was looked at and nothing was made, they do; until then its name is all there is to go by."""
    if pictures.processing is not None and pictures.processing.state is TaskState.DONE:
        return True
    known = find_format(pictures.asset.file.path)
    return known is not None and known.is_web_supported


def _build_missing_error(progress: ProcessingState | None, moment: datetime) -> ApiError:
    message = "Asset media not found"
    if progress is None or progress.state is TaskState.DONE:
        return ApiError(404, message)
    if progress.state is TaskState.FAILED:
        return ApiError(404, message, detail=f"It could not be made: {progress.error}")
    wait = (
        MIN_RETRY_AFTER
        if progress.state is TaskState.RUNNING
        else min(max(progress.not_before - moment, MIN_RETRY_AFTER), MAX_RETRY_AFTER)
    )
    return ApiError(404, message, detail="It is being made", headers={"retry-after": str(ceil(wait.total_seconds()))})


def _build_file_name(asset: Asset, rendition: Rendition, file: File) -> str:
    stem = asset.original_file_name.rpartition(".")[0] or asset.original_file_name
    extension = file.path[file.path.rfind(".") :]
    return f"{stem}{extension}" if rendition is PLAYBACK else f"{stem}_{rendition.name}{extension}"
