"""What the addresses of assets, persons and users give: which file, under which name, and what else where there is none.

Decides as Immich does, and does no input or output.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from app.api.errors import ApiError
from app.api.permissions import Permission
from app.catalog.pictures import AssetPictures, Progress
from app.catalog.records import Asset, AssetType, File, FileKind, TaskState
from app.formats import Kind, supported

SOON = timedelta(seconds=2)
"""When to ask again for what is being made."""
LATEST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, eq=False)
class Rendition:
    """One way to see something. `kind`: which file that is; `unknown`: what a caller is told who asks for what is not there, or not
    theirs. Each exists once, and is compared by identity."""

    name: str
    kind: FileKind
    permission: Permission
    unknown: str = "Asset not found"


ORIGINAL = Rendition("original", FileKind.ORIGINAL, Permission.ASSET_DOWNLOAD)
THUMBNAIL = Rendition("thumbnail", FileKind.THUMBNAIL, Permission.ASSET_VIEW)
PREVIEW = Rendition("preview", FileKind.PREVIEW, Permission.ASSET_VIEW)
FULLSIZE = Rendition("fullsize", FileKind.FULLSIZE, Permission.ASSET_VIEW)
PLAYBACK = Rendition("playback", FileKind.ENCODED_VIDEO, Permission.ASSET_VIEW)
OF_ASSETS = (ORIGINAL, THUMBNAIL, PREVIEW, FULLSIZE, PLAYBACK)

PERSON = Rendition("person", FileKind.PERSON, Permission.PERSON_READ, "Person not found")
PROFILE = Rendition("profile", FileKind.PROFILE, Permission.USER_PROFILE_IMAGE_READ, "There is no profile image")

_SIZES = {rendition.name: rendition for rendition in (THUMBNAIL, PREVIEW, FULLSIZE)}


@dataclass(frozen=True, slots=True)
class Shown:
    """The file that is sent, and the name that it is given."""

    owner_id: UUID
    file: File
    filename: str
    last_modified: datetime
    library_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another address of the same asset gives it: the last part of that address, and the size to ask for there, if any."""

    owner_id: UUID
    address: str
    size: str | None


class NotMade(Exception):
    """There is no such file (yet). `refusal` is for the owner; others are told that there is no such asset."""

    def __init__(self, owner_id: UUID, refusal: ApiError) -> None:
        self.owner_id = owner_id
        self.refusal = refusal
        super().__init__(refusal.message)


def of_size(size: str | None) -> Rendition:
    """What `/thumbnail?size=…` asks for. Raises 400."""
    if size is None:
        return THUMBNAIL
    if size == ORIGINAL.name:
        raise ApiError(400, "May not request original file")
    if size not in _SIZES:
        raise ApiError(400, f"size: is none of {', '.join(_SIZES)}")
    return _SIZES[size]


def original(asset: Asset) -> Shown:
    # Not later than now, whatever the uploader's clock said (RFC 9110 section 8.8.2.1).
    last_modified = min(asset.file_modified_at, asset.file.created_at)
    return Shown(asset.owner_id, asset.file, asset.original_file_name, last_modified, asset.library_id)


def choose(pictures: AssetPictures, wanted: Rendition, moment: datetime) -> Shown | Elsewhere:
    """Raises `NotMade`."""
    asset, made = pictures.asset, pictures.made.get(wanted.kind)
    if wanted is ORIGINAL:
        return original(asset)
    if wanted is FULLSIZE:
        if _browsers_show(asset):
            return Elsewhere(asset.owner_id, ORIGINAL.name, None)
        if made is None:
            return Elsewhere(asset.owner_id, THUMBNAIL.name, PREVIEW.name)
    if wanted is PLAYBACK:
        if asset.type is not AssetType.VIDEO:
            raise NotMade(asset.owner_id, ApiError(404, "Asset media not found"))
        if made is None and _browsers_play(pictures):
            return original(asset)
    if made is None:
        raise NotMade(asset.owner_id, _refusal(pictures.progress, moment))
    return Shown(asset.owner_id, made, _file_name(asset, wanted, made), made.created_at)


def _browsers_show(asset: Asset) -> bool:
    known = supported(asset.original_file_name) or supported(asset.file.path)
    return known is not None and known.kind is Kind.IMAGE and known.web


def _browsers_play(pictures: AssetPictures) -> bool:
    """Once it was looked at and nothing was made, they do; until then its name is all there is to go by."""
    if pictures.progress is not None and pictures.progress.state is TaskState.DONE:
        return True
    known = supported(pictures.asset.file.path)
    return known is not None and known.web


def _refusal(progress: Progress | None, moment: datetime) -> ApiError:
    message = "Asset media not found"
    if progress is None or progress.state is TaskState.DONE:
        return ApiError(404, message)
    if progress.state is TaskState.FAILED:
        return ApiError(404, message, detail=f"It could not be made: {progress.error}")
    wait = SOON if progress.state is TaskState.RUNNING else min(max(progress.not_before - moment, SOON), LATEST)
    return ApiError(404, message, detail="It is being made", headers={"retry-after": str(ceil(wait.total_seconds()))})


def _file_name(asset: Asset, wanted: Rendition, made: File) -> str:
    stem = asset.original_file_name.rpartition(".")[0] or asset.original_file_name
    extension = made.path[made.path.rfind(".") :]
    return f"{stem}{extension}" if wanted is PLAYBACK else f"{stem}_{wanted.name}{extension}"
