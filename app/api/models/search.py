"""The search for assets by what is known about them: Immich's request and answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.assets import AssetResponse
from app.api.models.shape import Checksum, Moment, Name, Shape
from app.catalog.records import AssetFilters, AssetType, Visibility


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


class MetadataSearch(Shape):
    """All given conditions hold together. Conditions on what this service does not know (people, places) are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"originalFileName": "IMG_", "type": "IMAGE", "page": 1, "size": 100}]}
    )

    id: UUID | None = None
    original_file_name: Name | None = Field(default=None, description="A part of the name; case does not matter.")
    type: AssetType | None = None
    checksum: Checksum | None = None
    device_asset_id: Name | None = None
    device_id: Name | None = None
    library_id: UUID | None = None
    is_favorite: bool | None = None
    is_offline: bool | None = None
    is_motion: bool | None = None
    visibility: Visibility | None = None
    taken_after: Moment | None = None
    taken_before: Moment | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    updated_after: Moment | None = None
    updated_before: Moment | None = None
    trashed_after: Moment | None = None
    trashed_before: Moment | None = None
    with_deleted: bool = False
    with_exif: bool = False
    order: Order = Order.DESC
    page: int = Field(default=1, ge=1, le=1_000_000)
    size: int = Field(default=250, ge=1, le=1000)

    def filters(self) -> AssetFilters:
        same = {name: getattr(self, name) for name in _SAME_NAMES}
        return AssetFilters(
            **same,
            ids=None if self.id is None else (self.id,),
            name_contains=self.original_file_name,
            with_deleted=self.with_deleted or self.trashed_after is not None or self.trashed_before is not None,
            oldest_first=self.order is Order.ASC,
        )


_SAME_NAMES = (AssetFilters.__dataclass_fields__.keys() & MetadataSearch.model_fields.keys()) - {"with_deleted"}


class NoAlbums(Shape):
    """There are no albums here."""

    total: int = 0
    count: int = 0
    items: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()


class FoundAssets(Shape):
    """`total` and `count` are those of this page, as in Immich; `nextPage` is the next page's number as text, null on the last."""

    total: int
    count: int
    items: list[AssetResponse]
    facets: tuple[str, ...] = ()
    next_page: str | None
    next_cursor: str | None = None


class SearchResponse(Shape):
    albums: NoAlbums
    assets: FoundAssets

    @classmethod
    def of(cls, items: list[AssetResponse], next_page: int | None) -> Self:
        found = FoundAssets(
            total=len(items), count=len(items), items=items, next_page=str(next_page) if next_page else None
        )
        return cls(albums=NoAlbums(), assets=found)
