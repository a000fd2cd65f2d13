"""Models of the metadata search for assets, in Immich's format."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.api.models.assets import AssetResponse
from app.api.models.base_model import ApiModel, Checksum, Name, Selection, SentTimestamp
from app.catalog.schema.records import AssetFilters, AssetType, FileKind, SortKey, Visibility


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


class OrderField(StrEnum):
    """Of Immich's, all but the rating."""

    FILE_CREATED_AT = "fileCreatedAt"
    LOCAL_DATE_TIME = "localDateTime"
    FILE_SIZE = "fileSizeInBytes"


class SearchOrder(Selection):
    """As Immich 3.2 has it; goes before `order`."""

    field: OrderField = OrderField.FILE_CREATED_AT
    direction: Order = Order.DESC


_EMPTY_LIST_ONLY = "Only an empty list, which is no condition: there are no {} here."
_DEFAULT_VISIBILITIES = frozenset({Visibility.TIMELINE, Visibility.ARCHIVE})
_EXIF_TEXTS = ("make", "model", "lens_model", "city", "state", "country")

EmptyIdList = Annotated[list[UUID] | None, Field(max_length=0)]
PathText = Annotated[Name | None, Field(description="The whole path, as it is stored.")]
ExifText = Annotated[Name | None, Field(description="The whole text, in its case; null for assets that do not say.")]
FileSize = Annotated[int | None, Field(ge=0, le=2**63 - 1)]


class AssetSearch(Selection):
    """All given conditions hold together. Each is Immich's, or one that its older versions had; a condition that this service does not
    know is refused. `minFileSize` and `maxFileSize` are bytes, and inclusive."""

    null_conditions: ClassVar[frozenset[str]] = frozenset({*map(to_camel, _EXIF_TEXTS), "rating"})

    id: UUID | None = None
    original_file_name: Name | None = Field(default=None, description="A part of the name; case does not matter.")
    original_path: Name | None = Field(default=None, description="A part of the path; case does not matter.")
    description: Name | None = Field(default=None, description="A part of it; case does not matter.")
    make: ExifText = None
    model: ExifText = None
    lens_model: ExifText = None
    city: ExifText = None
    state: ExifText = None
    country: ExifText = None
    rating: int | None = Field(default=None, ge=-1, le=5, description="Null for assets without one.")
    min_file_size: FileSize = None
    max_file_size: FileSize = None
    preview_path: PathText = None
    thumbnail_path: PathText = None
    encoded_video_path: PathText = None
    type: AssetType | None = None
    checksum: Checksum | None = None
    device_asset_id: Name | None = None
    device_id: Name | None = None
    library_id: UUID | None = None
    is_favorite: bool | None = None
    is_offline: bool | None = None
    is_motion: bool | None = None
    is_encoded: bool | None = Field(default=None, description="Whether there is a version that was made playable.")
    visibility: Visibility | None = Field(default=None, description="Otherwise timeline and archive.")
    is_visible: bool | None = Field(default=None, description="False: what is hidden.")
    is_archived: bool | None = None
    with_archived: bool = Field(default=True, description="False: without the archive.")
    taken_after: SentTimestamp | None = None
    taken_before: SentTimestamp | None = None
    created_after: SentTimestamp | None = None
    created_before: SentTimestamp | None = None
    updated_after: SentTimestamp | None = None
    updated_before: SentTimestamp | None = None
    trashed_after: SentTimestamp | None = None
    trashed_before: SentTimestamp | None = None
    person_ids: EmptyIdList = Field(default=None, description=_EMPTY_LIST_ONLY.format("people"))
    tag_ids: EmptyIdList = Field(default=None, description=_EMPTY_LIST_ONLY.format("tags"))
    album_ids: EmptyIdList = Field(default=None, description=_EMPTY_LIST_ONLY.format("albums"))
    is_not_in_album: bool | None = Field(default=None, description="Without effect: no asset is in an album.")
    with_stacked: bool = Field(default=True, description="Without effect: there are no stacks.")
    with_people: bool = Field(default=False, description="Without effect: there are no people.")
    with_deleted: bool = Field(default=False, description="The trash, too; so do `isOffline` and `trashed…`.")
    with_exif: bool = False

    def to_filters(self, order: SearchOrder | None = None) -> AssetFilters:
        order = order or SearchOrder()
        shared_fields = {name: getattr(self, name) for name in _SHARED_FIELD_NAMES}
        trash_times = (self.trashed_after, self.trashed_before)
        paths = {
            FileKind.PREVIEW: self.preview_path,
            FileKind.THUMBNAIL: self.thumbnail_path,
            FileKind.ENCODED_VIDEO: self.encoded_video_path,
        }
        given = [name for name in (*_EXIF_TEXTS, "rating") if name in self.model_fields_set]
        return AssetFilters(
            **shared_fields,
            ids=None if self.id is None else (self.id,),
            name_contains=self.original_file_name,
            path_contains=self.original_path,
            description_contains=self.description,
            exif={to_camel(name): getattr(self, name) for name in given},
            made_paths={kind: path for kind, path in paths.items() if path is not None},
            visibilities=self._visibilities(),
            with_deleted=self.with_deleted
            or bool(self.is_offline)
            or any(moment is not None for moment in trash_times),
            order_by=_SORT_KEYS[order.field],
            ascending=order.direction is Order.ASC,
        )

    def _visibilities(self) -> frozenset[Visibility]:
        selected = _DEFAULT_VISIBILITIES if self.is_visible is not False else frozenset({Visibility.HIDDEN})
        if self.visibility is not None:
            selected = frozenset({self.visibility}) & (
                selected if self.is_visible is not None else frozenset(Visibility)
            )
        if self.is_archived is not None:
            selected &= {Visibility.ARCHIVE} if self.is_archived else frozenset(Visibility) - {Visibility.ARCHIVE}
        return selected if self.with_archived else selected - {Visibility.ARCHIVE}


class MetadataSearch(AssetSearch):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"originalFileName": "IMG_", "type": "IMAGE", "page": 1, "size": 100}]}
    )

    order: Order = Order.DESC
    order_by: SearchOrder | None = None
    page: int = Field(default=1, ge=1, le=1_000_000)
    size: int = Field(default=250, ge=1, le=1000)

    def to_filters(self, order: SearchOrder | None = None) -> AssetFilters:
        return super().to_filters(order or self.order_by or SearchOrder(direction=self.order))


class RandomSearch(AssetSearch):
    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "IMAGE", "size": 10}]})

    size: int = Field(default=250, ge=1, le=1000)


class LargeAssetSearch(AssetSearch):
    """The conditions are parameters of the address, beside which there may be a credential: `refuse_unknown_parameters` refuses others."""

    model_config = ConfigDict(extra="ignore")

    size: int = Field(default=250, ge=1, le=1000)


class SearchStatistics(ApiModel):
    """How many assets match."""

    total: int


_SORT_KEYS = {
    OrderField.FILE_CREATED_AT: SortKey.FILE_CREATED_AT,
    OrderField.LOCAL_DATE_TIME: SortKey.LOCAL_DATE_TIME,
    OrderField.FILE_SIZE: SortKey.FILE_SIZE,
}
_SHARED_FIELD_NAMES = (AssetFilters.__dataclass_fields__.keys() & AssetSearch.model_fields.keys()) - {
    "with_deleted",
    "order_by",
}


class NoAlbums(ApiModel):
    """There are no albums here."""

    total: int = 0
    count: int = 0
    items: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()


class FoundAssets(ApiModel):
    """`total` and `count` are those of this page, as in Immich; `nextPage` is the next page's number as text, null on the last."""

    total: int
    count: int
    items: list[AssetResponse]
    facets: tuple[str, ...] = ()
    next_page: str | None
    next_cursor: str | None = None


class SearchResponse(ApiModel):
    albums: NoAlbums
    assets: FoundAssets

    @classmethod
    def from_page(cls, items: list[AssetResponse], next_page: int | None) -> Self:
        found = FoundAssets(
            total=len(items), count=len(items), items=items, next_page=str(next_page) if next_page else None
        )
        return cls(albums=NoAlbums(), assets=found)
