"""Archives: what to pack, and where to fetch it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.api.models.shape import Moment, Selection, Shape, Text

DEFAULT_ARCHIVE_BYTES = 4 * 1024**3
"""As in Immich: older file systems and programs stop there."""
MAX_ASSETS = 200_000

AssetIds = Annotated[list[UUID], Field(max_length=MAX_ASSETS)]


class DownloadInfoRequest(Selection):
    """One of the selectors must be there."""

    asset_ids: AssetIds | None = None
    user_id: UUID | None = None
    album_id: UUID | None = None
    archive_size: Annotated[int | None, Field(ge=1, description="Most bytes of files in one archive.")] = None


class ArchivePart(Shape):
    size: int
    asset_ids: list[UUID]


class DownloadInfoResponse(Shape):
    total_size: int
    archives: list[ArchivePart]


class ArchiveRequest(Selection):
    asset_ids: AssetIds
    archive_name: Annotated[Text | None, Field(max_length=255)] = None
    edited: bool = Field(default=False, description="Immich v3: without effect, for there are no edited versions here.")


class LinkRequest(ArchiveRequest):
    expires_in: Annotated[int, Field(ge=1, le=365 * 86400, description="Seconds that the link works.")] = 86400


class LinkResponse(Shape):
    """`url` needs no other credential. `resumable`: it can be fetched by range."""

    url: str
    size: int
    etag: str
    resumable: bool
    expires_at: Moment
