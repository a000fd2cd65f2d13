"""Models of assets: responses, updates, bulk operations, and the check for duplicates before an upload."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from app.api.models.base_model import (
    ApiModel,
    Checksum,
    RequestModel,
    Selection,
    StorableText,
    StoredTimestamp,
    Timestamp,
    encode_base64,
    is_absent,
)
from app.catalog.assets.duplicate_uploads import DuplicateAddition
from app.catalog.browsing.client_metadata import ClientMetadata
from app.catalog.schema.records import Asset, AssetType, Visibility
from app.media.extracted_properties import get_damage
from app.uploads.fields import MAX_METADATA_DEPTH, measure_depth

MAX_IDS = 50_000


class ExifResponse(ApiModel):
    """What is known about the file and its picture."""

    file_size_in_byte: int | None = None
    exif_image_width: int | None = None
    exif_image_height: int | None = None
    make: str | None = None
    model: str | None = None
    lens_model: str | None = None
    f_number: float | None = None
    focal_length: float | None = None
    iso: int | None = None
    exposure_time: str | None = None
    orientation: str | None = None
    date_time_original: StoredTimestamp | None = Field(
        default=None, description="As if in UTC where the zone is not known."
    )
    modify_date: StoredTimestamp | None = None
    time_zone: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    description: str | None = None
    projection_type: str | None = None
    rating: int | None = None
    fps: float | None = Field(default=None, exclude_if=is_absent, description="Frames per second, of videos.")
    video_codec: str | None = Field(default=None, exclude_if=is_absent)
    audio_codec: str | None = Field(default=None, exclude_if=is_absent)

    @classmethod
    def from_asset(cls, asset: Asset) -> Self:
        exif = {name: value for name, value in (asset.exif or {}).items() if name in _EXIF_NAMES}
        size = {"fileSizeInByte": asset.file.size, "exifImageWidth": asset.width, "exifImageHeight": asset.height}
        return cls.model_validate(size | exif)


_EXIF_NAMES = frozenset(field.alias for field in ExifResponse.model_fields.values()) - {"fileSizeInByte"}


class AssetResponse(ApiModel):
    """One photo or video. `checksum` is its SHA-1 in base64, `duration` milliseconds, `width` and `height` pixels."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d",
                    "ownerId": "b1c3c2a0-9f0e-4f7e-8a3f-5a8f0f0a6a11",
                    "type": "VIDEO",
                    "originalFileName": "MOV_0001.mp4",
                    "originalMimeType": "video/mp4",
                    "originalPath": "/data/media/upload/b1c3…/3d/7a/3d7a….mp4",
                    "checksum": "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
                    "fileCreatedAt": "2026-05-01T10:00:00.000Z",
                    "fileModifiedAt": "2026-05-01T10:00:00.000Z",
                    "localDateTime": "2026-05-01T10:00:00.000Z",
                    "createdAt": "2026-05-02T08:15:00.123Z",
                    "updatedAt": "2026-05-02T08:15:00.123Z",
                    "visibility": "timeline",
                    "isFavorite": False,
                    "isArchived": False,
                    "isTrashed": False,
                    "isOffline": False,
                    "isEdited": False,
                    "hasMetadata": False,
                    "duration": 12500,
                    "width": 1920,
                    "height": 1080,
                    "thumbhash": "1QcSHQRnh493V4dIh4eXh1h4kJUI",
                    "deviceAssetId": "",
                    "deviceId": "",
                    "exifInfo": {
                        "fileSizeInByte": 10485760,
                        "exifImageWidth": 1920,
                        "exifImageHeight": 1080,
                        "make": "Canon",
                        "model": "Canon EOS R5",
                        "dateTimeOriginal": "2026-05-01T10:00:00.000Z",
                        "timeZone": "UTC+2",
                        "latitude": 52.52,
                        "longitude": 13.405,
                        "rating": 4,
                    },
                }
            ]
        }
    )

    id: UUID
    owner_id: UUID
    type: AssetType
    original_file_name: str
    original_mime_type: str
    original_path: str
    checksum: str
    file_created_at: Timestamp
    file_modified_at: Timestamp
    local_date_time: Timestamp
    created_at: Timestamp
    updated_at: Timestamp
    visibility: Visibility
    is_favorite: bool
    is_archived: bool
    is_trashed: bool
    is_offline: bool
    is_edited: bool
    has_metadata: bool
    duration: int | None
    width: int | None
    height: int | None
    thumbhash: str | None
    library_id: UUID | None = None
    live_photo_video_id: UUID | None = None
    duplicate_id: UUID | None = None
    device_asset_id: str = Field(description="As the uploading client named it (Immich v2), else empty.")
    device_id: str
    exif_info: ExifResponse | None = Field(default=None, exclude_if=is_absent)
    resized: bool = Field(default=True, description="Always true, as in Immich.")
    people: tuple[str, ...] = Field(
        default=(), description="Always empty, as the three that follow: for clients that need them."
    )
    unassigned_faces: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    stack: str | None = None
    processing_error: str | None = Field(
        default=None,
        exclude_if=is_absent,
        description="Why no thumbnails or no playable video could be made; left out while that may still come.",
    )

    sidecar_error: str | None = Field(
        default=None,
        exclude_if=is_absent,
        description="Why the XMP sidecar was ignored; the metadata is then that of the file alone.",
    )

    original_damage: str | None = Field(
        default=None,
        exclude_if=is_absent,
        description="What is wrong with the original although its picture could be made, such as missing last bytes.",
    )

    @classmethod
    def from_asset(cls, asset: Asset, *, failure: str | None = None, with_exif: bool = True) -> Self:
        """`failure`: the reason if processing of the asset was given up."""
        return cls(
            id=asset.id,
            owner_id=asset.owner_id,
            type=asset.type,
            original_file_name=asset.original_file_name,
            original_mime_type=asset.file.mime_type,
            original_path=asset.file.path,
            checksum=encode_base64(asset.checksum or b""),
            file_created_at=asset.file_created_at,
            file_modified_at=asset.file_modified_at,
            local_date_time=asset.local_date_time,
            created_at=asset.created_at,
            updated_at=asset.updated_at,
            visibility=asset.visibility,
            is_favorite=asset.is_favorite,
            is_archived=asset.visibility is Visibility.ARCHIVE,
            is_trashed=asset.deleted_at is not None,
            is_offline=asset.is_offline,
            is_edited=False,
            has_metadata=asset.exif is not None,
            duration=asset.duration,
            width=asset.width,
            height=asset.height,
            thumbhash=encode_base64(asset.thumbhash) if asset.thumbhash else None,
            library_id=asset.library_id,
            live_photo_video_id=asset.live_photo_video_id,
            device_asset_id=asset.device_asset_id or "",
            device_id=asset.device_id or "",
            exif_info=ExifResponse.from_asset(asset) if with_exif else None,
            processing_error=failure,
            sidecar_error=asset.sidecar_error,
            original_damage=get_damage(asset),
        )


class AssetPage(ApiModel):
    """Newest first. `nextCursor` asks for the next page; null on the last."""

    items: list[AssetResponse]
    next_cursor: str | None


class UploadStatus(StrEnum):
    CREATED = "created"
    DUPLICATE = "duplicate"


class UploadResponse(ApiModel):
    """The asset that holds the bytes: a new one, or the one that had them already."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d", "status": "created"}]}
    )

    id: UUID
    status: UploadStatus
    added: list[DuplicateAddition] | None = Field(
        default=None,
        exclude_if=is_absent,
        description="Of a duplicate: what this upload added to the asset, which had none. Left out if nothing.",
    )


class UploadCheckItem(RequestModel):
    """`id` is the client's own name for the file (often its path) and comes back as it is."""

    id: StorableText
    checksum: Checksum = Field(description="SHA-1 in hex or base64.")


class UploadCheckRequest(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"assets": [{"id": "/photos/IMG_0001.jpg", "checksum": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}]}
            ]
        }
    )

    assets: Annotated[list[UploadCheckItem], Field(max_length=MAX_IDS)]


class UploadAction(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"


class UploadCheckResult(ApiModel):
    """`assetId` and `isTrashed` belong to the asset that has the same bytes; only with a reject."""

    id: str
    action: UploadAction
    reason: str | None = Field(default=None, exclude_if=is_absent)
    asset_id: UUID | None = Field(default=None, exclude_if=is_absent)
    is_trashed: bool | None = Field(default=None, exclude_if=is_absent)


class UploadCheckResponse(ApiModel):
    """One result for each asset asked about, in the order asked."""

    results: list[UploadCheckResult]


class BulkIds(Selection):
    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d"]}]})

    ids: Annotated[list[UUID], Field(max_length=MAX_IDS), AfterValidator(lambda ids: list(dict.fromkeys(ids)))]


class BulkDelete(BulkIds):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ids": ["6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d"], "force": False}]}
    )

    force: bool = Field(default=False, description="Remove now; otherwise into the trash first.")


class TrashResponse(ApiModel):
    """How many assets it was."""

    count: int


class StatisticsResponse(ApiModel):
    images: int
    videos: int
    total: int


class AssetJobName(StrEnum):
    """Immich's, without the one of faces."""

    REFRESH_METADATA = "refresh-metadata"
    REGENERATE_THUMBNAIL = "regenerate-thumbnail"
    TRANSCODE_VIDEO = "transcode-video"


class AssetJobRequest(Selection):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"assetIds": ["6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d"], "name": "regenerate-thumbnail"}]
        }
    )

    asset_ids: Annotated[list[UUID], Field(max_length=MAX_IDS)]
    name: AssetJobName


class MetadataItem(ApiModel):
    """What a client stored with the upload, as it was sent. An older version took what is nested too deep to be sent again."""

    key: str
    value: Any
    updated_at: Timestamp

    @classmethod
    def list_from_metadata(cls, metadata: ClientMetadata) -> list[Self]:
        if measure_depth(metadata.text) > MAX_METADATA_DEPTH:
            return []
        values: dict[str, Any] = json.loads(metadata.text)
        return [cls(key=key, value=value, updated_at=metadata.stored_at) for key, value in values.items()]
