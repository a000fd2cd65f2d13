"""Models of archive downloads: the split of a selection, requests for a zip, and download links."""

from __future__ import annotations

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from app.api.models.base_model import ApiModel, Selection, StorableText, Timestamp
from app.catalog.schema.records import ArchiveLinkSummary

DEFAULT_ARCHIVE_BYTES = 4 * 1024**3
"""Immich's default: older file systems and unzip programs are limited to 4 GiB."""
MAX_ASSETS = 200_000

AssetIds = Annotated[list[UUID], Field(max_length=MAX_ASSETS)]


class DownloadInfoRequest(Selection):
    """One of the selectors must be there."""

    asset_ids: AssetIds | None = None
    user_id: UUID | None = None
    album_id: UUID | None = None
    archive_size: Annotated[int | None, Field(ge=1, description="Most bytes of files in one archive.")] = None


class ArchivePart(ApiModel):
    size: int
    asset_ids: list[UUID]


class DownloadInfoResponse(ApiModel):
    total_size: int
    archives: list[ArchivePart]


class ArchiveRequest(Selection):
    asset_ids: AssetIds
    archive_name: Annotated[StorableText | None, Field(max_length=255)] = None
    edited: bool = Field(default=False, description="Immich v3: without effect, for there are no edited versions here.")


class LinkRequest(ArchiveRequest):
    expires_in: Annotated[int, Field(ge=1, le=365 * 86400, description="Seconds that the link works.")] = 86400
    ends_with_key: bool = Field(
        default=False,
        description="The link ends also when the key or the login that asks for it is revoked or expires.",
    )


class LinkResponse(ApiModel):
    """`url` needs no other credential, and is not told again. `resumable`: it can be fetched by range."""

    id: UUID
    url: str
    size: int
    etag: str
    resumable: bool
    expires_at: Timestamp


class ListedLink(ApiModel):
    """A link that has not ended; its address was told when it was made, and is not kept."""

    id: UUID
    archive_name: str
    created_at: Timestamp
    expires_at: Timestamp
    ends_with_key: bool

    @classmethod
    def from_link(cls, link: ArchiveLinkSummary) -> Self:
        return cls(
            id=link.id,
            archive_name=link.name,
            created_at=link.created_at,
            expires_at=link.expires_at,
            ends_with_key=link.credential_id is not None,
        )
