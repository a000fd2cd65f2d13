"""Models of users, API keys, login and logout."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from app.api.models.base_model import ApiModel, Name, RequestModel, StorableText, Timestamp, validation_error
from app.api.models.permission_names import PERMISSION_NAMES
from app.catalog.schema.records import ApiKey, User

PermissionName = Annotated[StorableText, Field(min_length=1, max_length=100)]


class UserResponse(ApiModel):
    """Sizes in bytes; without a quota `quotaSizeInBytes` is null."""

    id: UUID
    email: str
    name: str
    is_admin: bool
    quota_size_in_bytes: int | None
    quota_usage_in_bytes: int
    created_at: Timestamp
    updated_at: Timestamp
    profile_changed_at: Timestamp
    deleted_at: Timestamp | None = None
    profile_image_path: str = Field(default="", description="Empty without a profile image.")
    avatar_color: str = "primary"
    status: str = "active"
    should_change_password: bool = False
    storage_label: str | None = None
    oauth_id: str = ""
    cluster_group_id: str
    license: str | None = None

    @classmethod
    def from_user(cls, user: User, profile_image_path: str, removed_at: datetime | None = None) -> Self:
        """`removed_at`: since when the user is being removed."""
        return cls(
            id=user.id,
            email=user.email,
            name=user.name,
            is_admin=user.is_admin,
            quota_size_in_bytes=user.quota,
            quota_usage_in_bytes=user.used,
            created_at=user.created_at,
            updated_at=user.updated_at,
            profile_changed_at=user.profile_changed_at or user.created_at,
            profile_image_path=profile_image_path,
            deleted_at=removed_at,
            status="active" if removed_at is None else "removing",
            cluster_group_id=str(user.id),
        )


class ProfileImageResponse(ApiModel):
    """Fetched from `/users/{id}/profile-image`; `profileChangedAt` changes with it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "userId": "b1c3c2a0-9f0e-4f7e-8a3f-5a8f0f0a6a11",
                    "profileImagePath": "/data/media/profile/b1c3…/3d7a….jpeg",
                    "profileChangedAt": "2026-05-02T08:15:00.123Z",
                }
            ]
        }
    )

    user_id: UUID
    profile_image_path: str
    profile_changed_at: Timestamp


class ApiKeyResponse(ApiModel):
    id: UUID
    name: str
    permissions: list[str]
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def from_api_key(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            name=key.name,
            permissions=list(key.permissions),
            created_at=key.created_at,
            updated_at=key.updated_at,
        )


class ApiKeyCreated(ApiKeyResponse):
    """`secret` is the key itself, shown this once. The key's fields are there twice: beside it (v3) and in `apiKey` (v2)."""

    secret: str
    api_key: ApiKeyResponse

    @classmethod
    def with_secret(cls, key: ApiKey, secret: str) -> Self:
        response = ApiKeyResponse.from_api_key(key)
        return cls(**dict(response), secret=secret, api_key=response)


def _validate_permissions(permissions: list[str]) -> list[str]:
    unknown = [name for name in permissions if name not in PERMISSION_NAMES]
    if unknown:
        raise validation_error(f"{unknown[0]!r} is no permission")
    return list(dict.fromkeys(permissions))


Permissions = Annotated[
    list[PermissionName], Field(min_length=1, max_length=500), AfterValidator(_validate_permissions)
]


class ApiKeyCreate(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "phone", "permissions": ["asset.upload", "asset.read"]}]}
    )

    name: Name = "API Key"
    permissions: Permissions = Field(description="Immich's names; `all` for everything.")


class ApiKeyUpdate(RequestModel):
    """Only what is given changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "old phone", "permissions": ["asset.read"]}]})

    name: Name | None = None
    permissions: Permissions | None = None


class LoginRequest(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "admin@example.org", "password": "correct horse battery staple"}]}
    )

    email: Name
    password: StorableText = Field(min_length=1, max_length=1024)


class TokenSignInRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"token": "5d0c…"}]})

    token: StorableText = Field(min_length=1, max_length=128, description="What stands behind `#signin=`.")


class KeySignInRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"apiKey": "5d0c…"}]})

    api_key: StorableText = Field(min_length=1, max_length=128)


class LoginResponse(ApiModel):
    """`accessToken` is the session's token: as `Authorization: Bearer`, or in the cookie that comes along."""

    access_token: str
    user_id: UUID
    user_email: str
    name: str
    is_admin: bool
    profile_image_path: str = ""
    should_change_password: bool = False
    is_onboarded: bool = True

    @classmethod
    def from_login(cls, user: User, token: str, profile_image_path: str) -> Self:
        return cls(
            access_token=token,
            user_id=user.id,
            user_email=user.email,
            name=user.name,
            is_admin=user.is_admin,
            profile_image_path=profile_image_path,
        )


class LogoutResponse(ApiModel):
    successful: bool = True
    redirect_uri: str = "/auth/login?autoLaunch=0"


class TokenStatus(ApiModel):
    auth_status: bool = True
