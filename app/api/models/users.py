"""Models of other users, of changes of users, and of preferences."""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from app.api.models.base_model import ApiModel, Name, RequestModel, StorableText, Timestamp
from app.api.models.downloads import DEFAULT_ARCHIVE_BYTES
from app.catalog.schema.records import Session, User

NonEmptyName = Annotated[Name, StringConstraints(min_length=1)]
Password = Annotated[StorableText, Field(min_length=1, max_length=1024)]
QuotaBytes = Annotated[int | None, Field(ge=0, le=2**63 - 1, description="Bytes; null for no quota.")]


class UserSummary(ApiModel):
    """What users see of each other."""

    id: UUID
    email: str
    name: str
    profile_image_path: str = Field(default="", description="Empty without a profile image.")
    profile_changed_at: Timestamp
    avatar_color: str = "primary"

    @classmethod
    def from_user(cls, user: User, profile_image_path: str) -> Self:
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            profile_image_path=profile_image_path,
            profile_changed_at=user.profile_changed_at or user.created_at,
        )


class MyUserUpdate(RequestModel):
    """Only what is given changes. The colour that Immich has is not kept here."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Anna"}]})

    email: Name | None = None
    name: NonEmptyName | None = None
    password: Password | None = None


class UserCreate(RequestModel):
    """What Immich has beside these fields is not kept here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "email": "anna@example.org",
                    "name": "Anna",
                    "password": "correct horse battery",
                    "quotaSizeInBytes": None,
                }
            ]
        }
    )

    email: Name
    name: NonEmptyName
    password: Password
    is_admin: bool = False
    quota_size_in_bytes: QuotaBytes = None


class UserUpdate(MyUserUpdate):
    """Only what is given changes; a null ends the quota. What Immich has beside these fields is not kept here."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"quotaSizeInBytes": 10737418240}]})

    is_admin: bool | None = None
    quota_size_in_bytes: QuotaBytes = None


class UserDelete(RequestModel):
    """Without `force` a user that has assets is not deleted."""

    force: bool = False


class PasswordChange(RequestModel):
    password: Password
    new_password: Password
    invalidate_sessions: bool = Field(default=False, description="End all other sessions.")


class SessionResponse(ApiModel):
    """`device_type`: of a login at Immich; the device of others is not kept in mind."""

    id: UUID
    created_at: Timestamp
    updated_at: Timestamp
    expires_at: Timestamp
    current: bool
    device_type: str = ""
    device_os: str = Field(default="", alias="deviceOS")
    app_version: str | None = None
    is_pending_sync_reset: bool = False

    @classmethod
    def from_session(cls, session: Session, *, current: bool) -> Self:
        return cls(
            id=session.id,
            created_at=session.created_at,
            updated_at=session.created_at,
            expires_at=session.expires_at,
            current=current,
            device_type=session.device_type,
        )


def build_preferences() -> dict[str, Any]:
    """Immich's preferences, as they are before a user changes any; what is not here is switched off."""
    off = {"enabled": False, "sidebarWeb": False}
    return {
        "albums": {"defaultAssetOrder": "desc"},
        "cast": {"gCastEnabled": False},
        "download": {"archiveSize": DEFAULT_ARCHIVE_BYTES, "includeEmbeddedVideos": False},
        "emailNotifications": {"enabled": False, "albumInvite": False, "albumUpdate": False},
        "folders": {"enabled": True, "sidebarWeb": False},
        "memories": {**off, "duration": 5},
        "people": {**off, "minimumFaces": 3, "updateStrategy": "self"},
        "purchase": {"showSupportBadge": False, "hideBuyButtonUntil": "9999-12-31T00:00:00.000Z"},
        "ratings": {"enabled": True},
        "recentlyAdded": {"sidebarWeb": False},
        "sharedLinks": off,
        "tags": off,
    }
