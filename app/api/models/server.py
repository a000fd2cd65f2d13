"""Models of the server's information: version, configuration, features, storage, mounts and statistics."""

from __future__ import annotations

from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base_model import ApiModel, Timestamp
from app.catalog.schema.records import FileKind
from app.catalog.schema.upload_records import UploadState
from app.health.mount_states import MountCondition, MountKind


class PingResponse(ApiModel):
    res: str = "pong"


class VersionResponse(ApiModel):
    """The level of Immich's API that is spoken here: clients choose their dialect by it."""

    major: int = 3
    minor: int = 2
    patch: int = 2
    prerelease: int | None = None


class VersionCheckResponse(ApiModel):
    """Nobody looks for newer releases: both are always null."""

    checked_at: Timestamp | None = None
    release_version: str | None = None


class VersionHistoryEntry(ApiModel):
    id: UUID
    version: str
    created_at: Timestamp


class ThemeResponse(ApiModel):
    custom_css: str = ""


class ServerConfigResponse(ApiModel):
    """`isInitialized`: there is no sign-up here, for the first start makes the administrator. `publicUsers`: only administrators see other
    users. `trashDays`: 0 keeps the trash for ever."""

    external_domain: str
    trash_days: int
    user_delete_delay: int = Field(default=0, description="Days until a deleted user is removed: at once.")
    is_initialized: bool = True
    is_onboarded: bool = True
    public_users: bool = False
    maintenance_mode: bool = False
    login_page_message: str = ""
    oauth_button_text: str = ""
    map_dark_style_url: str = ""
    map_light_style_url: str = ""
    min_faces: int = 3


class AboutResponse(ApiModel):
    """The version of mediavault itself."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "v0.1.0", "versionUrl": "/docs", "licensed": False}]}
    )

    version: str
    version_url: str
    licensed: bool


class StorageResponse(ApiModel):
    """Of the disk that holds the media. A bucket has no size: there `diskUse` is what all files take, and the size and what is
    available are 0."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "diskSize": "1.0 TiB",
                    "diskUse": "256.0 GiB",
                    "diskAvailable": "768.0 GiB",
                    "diskSizeRaw": 1099511627776,
                    "diskUseRaw": 274877906944,
                    "diskAvailableRaw": 824633720832,
                    "diskUsagePercentage": 25.0,
                }
            ]
        }
    )

    disk_size: str
    disk_use: str
    disk_available: str
    disk_size_raw: int
    disk_use_raw: int
    disk_available_raw: int
    disk_usage_percentage: float


class MediaTypesResponse(ApiModel):
    """The file name extensions that are taken in."""

    image: list[str]
    video: list[str]
    sidecar: list[str]


class FeaturesResponse(ApiModel):
    """What clients may offer. All of Immich's names; most of it is not the business of this service: places are not looked up for
    coordinates (`reverseGeocoding`), and faces, duplicates and texts are not searched for."""

    config_file: bool = False
    duplicate_detection: bool = False
    email: bool = False
    facial_recognition: bool = False
    import_faces: bool = False
    map: bool = False
    oauth: bool = False
    oauth_auto_launch: bool = False
    ocr: bool = False
    password_login: bool = True
    realtime_transcoding: bool = False
    reverse_geocoding: bool = False
    search: bool = True
    sidecar: bool = True
    smart_search: bool = False
    trash: bool = True


class MountResponse(ApiModel):
    """A media folder (on S3: the bucket) or an external library. `since` is when the state was first seen; the bytes are those of the
    file system, null where there is none or the place is not well."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "thumbs",
                    "kind": "media",
                    "state": "unmounted",
                    "since": "2026-11-25T18:00:00.000Z",
                    "error": "/photos/thumbs/.immich is missing: the media location looks unmounted or emptied",
                }
            ]
        }
    )

    name: str
    kind: MountKind
    state: MountCondition
    since: Timestamp
    error: str | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None


class UserUsage(ApiModel):
    """Counts of assets, and bytes: of the originals, and in `usageByKind` of all that is stored, by kind of file."""

    user_id: UUID
    user_name: str
    photos: int
    videos: int
    usage: int
    usage_photos: int
    usage_videos: int
    usage_by_kind: dict[FileKind, int]
    quota_size_in_bytes: int | None


class UploadStatisticsResponse(ApiModel):
    """Resumable uploads: how many are unfinished, how many bytes of them have arrived, and how many they reserve of their owners'
    quotas. `byState`: how many are known in each state, those that have ended until they are forgotten. `resumptions` of all of these."""

    unfinished: int
    received_bytes: int
    reserved_bytes: int
    resumptions: int
    by_state: dict[UploadState, int]


class ServerStatistics(ApiModel):
    """Counts of assets, and bytes, of all users together and of each."""

    photos: int
    videos: int
    usage: int
    usage_photos: int
    usage_videos: int
    usage_by_kind: dict[FileKind, int]
    usage_by_user: list[UserUsage]
    uploads: UploadStatisticsResponse


class WellKnownApi(ApiModel):
    endpoint: str = "/api"


class WellKnown(ApiModel):
    api: WellKnownApi = WellKnownApi()
