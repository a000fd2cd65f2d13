"""Builds SQL for assets: columns, conditions of searches, order and cursors of pages; and converts rows to records. It
runs no statement."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    Tuple,
    Uuid,
    bindparam,
    cast,
    exists,
    literal,
    or_,
    select,
    tuple_,
)

from app.catalog.assets.access_paths import AccessPath
from app.catalog.assets.exif_indexes import is_whole_in_exif_index, where_in_exif_index
from app.catalog.database.text_functions import contains_folded
from app.catalog.errors import InvalidCursor
from app.catalog.files import file_from_row
from app.catalog.schema import tables
from app.catalog.schema.column_types import Text, UtcDateTime
from app.catalog.schema.records import Asset, AssetFilters, FileKind, SortKey, Visibility
from app.unicode_folding import fold_case

_asset = tables.asset
_derivative = tables.derivative
_derived_file = tables.file.alias("made")
_file = tables.file
_user = tables.user

_INTERNAL_COLUMNS = ("metadata", "folded_name", "exif_edits", "live_photo_cid")
"""`metadata` may be long and is in no answer; `folded_name` is only searched; `exif` includes the others."""
_ASSET_COLUMNS = tuple(column for column in _asset.c if column.name not in _INTERNAL_COLUMNS)
_ASSET_FIELDS = tuple(column.name for column in _ASSET_COLUMNS)
JOINED_COLUMNS = len(_ASSET_COLUMNS) + len(_file.c)
_CURSOR = struct.Struct(">q16s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def select_assets_with_files() -> Select[*tuple[Any, ...]]:
    """Assets joined with their originals. `asset_from_row` takes the rows, and reads only the first `JOINED_COLUMNS`."""
    return select(*_ASSET_COLUMNS, _file).join(_file, _asset.c.file_id == _file.c.id)


def asset_from_row(row: Row[*tuple[Any, ...]]) -> Asset:
    values = tuple(row)
    fields = dict(zip(_ASSET_FIELDS, values, strict=False))
    fields["file"] = file_from_row(values[len(_ASSET_FIELDS) : JOINED_COLUMNS])
    del fields["file_id"]
    return Asset(**fields)


def where_trashed(trashed: bool) -> ColumnElement[bool]:
    return _asset.c.deleted_at.is_not(None) if trashed else _asset.c.deleted_at.is_(None)


def where_visible(visibility: Visibility | None) -> ColumnElement[bool]:
    """None: Immich's default, timeline and archive."""
    if visibility is None:
        return _asset.c.visibility.in_([Visibility.TIMELINE, Visibility.ARCHIVE])
    return _asset.c.visibility == visibility


def encode_cursor(last: Asset) -> str:
    """The cursor of the page that begins after `last`."""
    moment = (last.file_created_at - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(_CURSOR.pack(moment, last.id.bytes)).decode().rstrip("=")


def where_after_cursor(cursor: str) -> ColumnElement[bool]:
    """Assets after the cursor's position, newest first. Raises `InvalidCursor`."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        microseconds, identifier = _CURSOR.unpack(packed)
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, binascii.Error, struct.error, OverflowError):
        raise InvalidCursor("the cursor is none of ours") from None
    return tuple_(_asset.c.file_created_at, _asset.c.id) < _position_tuple(moment, UUID(bytes=identifier))


def where_later_than(asset: Asset) -> ColumnElement[bool]:
    """Assets after `asset`, oldest first."""
    return tuple_(_asset.c.file_created_at, _asset.c.id) > _position_tuple(asset.file_created_at, asset.id)


def _position_tuple(moment: datetime, asset_id: UUID) -> Tuple[Any]:
    return tuple_(literal(moment, UtcDateTime), literal(asset_id, Uuid))


def select_matching(
    owner_id: UUID, filters: AssetFilters, access_path: AccessPath, *columns: ColumnElement[Any]
) -> Select[*tuple[Any, ...]]:
    """These columns of the owner's matching assets. Joined with their originals only where the filters or their order need these."""
    statement = select(*columns).select_from(access_path.source)
    where = (*_where_filters(filters), *_where_exif_equals(filters, access_path.exif_fields))
    statement = statement.where(_asset.c.owner_id == owner_id, *where)
    of_file = (filters.path_contains, filters.min_file_size, filters.max_file_size)
    if filters.order_by is SortKey.FILE_SIZE or any(value is not None for value in of_file):
        statement = statement.join(_file, _asset.c.file_id == _file.c.id)
    return statement


def _where_filters(filters: AssetFilters) -> Sequence[ColumnElement[bool]]:
    """The conditions of a search but those on EXIF values, to be combined with AND."""
    where: list[ColumnElement[bool]] = [_asset.c.visibility.in_(sorted(filters.visibilities))]
    if filters.ids is not None:
        where.append(_asset.c.id.in_(filters.ids))
    if filters.is_encoded is not None:
        encoded = _has_derivative(FileKind.ENCODED_VIDEO)
        where.append(encoded if filters.is_encoded else ~encoded)
    if filters.is_motion is not None:
        video = _asset.c.live_photo_video_id
        where.append(video.is_not(None) if filters.is_motion else video.is_(None))
    if not (filters.with_deleted or filters.trashed_after or filters.trashed_before):
        where.append(where_trashed(False))
    where += [_has_derivative(kind, path) for kind, path in filters.made_paths.items()]
    return [
        *where,
        *_where_contains(filters),
        *_where_equal(filters),
        *_where_between(filters),
    ]


def choose_sort_column(filters: AssetFilters) -> ColumnElement[Any]:
    table = _file if filters.order_by is SortKey.FILE_SIZE else _asset
    return table.c[filters.order_by.value]


def _has_derivative(kind: FileKind, path: str | None = None) -> ColumnElement[bool]:
    """Whether the asset has a derivative of this kind, stored at `path` if one is given."""
    is_match = (_derivative.c.asset_id == _asset.c.id) & (_derivative.c.kind == kind)
    if path is None:
        return exists().where(is_match)
    return exists().where(is_match, _derivative.c.file_id == _derived_file.c.id, _derived_file.c.path == path)


def _where_contains(filters: AssetFilters) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if filters.name_contains is not None:
        by_folded_name = _contains_literally(_asset.c.folded_name, fold_case(filters.name_contains))
        # Assets inserted by an older version have no folded name until `FoldedNameBackfill.fill_missing` has run.
        by_name = contains_folded(_asset.c.original_file_name, filters.name_contains)
        where.append(or_(by_folded_name, _asset.c.folded_name.is_(None) & by_name))
    if filters.path_contains is not None:
        where.append(contains_folded(_file.c.path, filters.path_contains))
    if filters.description_contains is not None:
        where.append(contains_folded(_exif_text("description"), filters.description_contains))
    return where


def _contains_literally(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Whether `text` contains `part`, which is written into the statement. PostgreSQL prepares a statement that is repeated, and then plans it
    once for all parameters: it would read the assets in order for a rare name, too."""
    escaped = part.replace("/", "//").replace("%", "/%").replace("_", "/_")
    pattern = bindparam(None, f"%{escaped}%", Text, literal_execute=True)
    return text.like(pattern, escape="/")


def _where_exif_equals(filters: AssetFilters, indexed: Collection[str]) -> Iterator[ColumnElement[bool]]:
    for name, value in filters.exif.items():
        if name in indexed:
            yield where_in_exif_index(name, value)
        if name not in indexed or not is_whole_in_exif_index(value):
            yield _exif_text(name).is_(None) if value is None else _exif_text(name) == str(value)


def _exif_text(name: str) -> ColumnElement[str]:
    """An EXIF value as text, whatever its JSON type; NULL when there is none."""
    return cast(_asset.c.exif[name].as_string(), String)


def _where_equal(filters: AssetFilters) -> list[ColumnElement[bool]]:
    values = {
        _asset.c.type: filters.type,
        _asset.c.is_favorite: filters.is_favorite,
        _asset.c.is_offline: filters.is_offline,
        _asset.c.device_asset_id: filters.device_asset_id,
        _asset.c.device_id: filters.device_id,
        _asset.c.library_id: filters.library_id,
    }
    where = [column == value for column, value in values.items() if value is not None]
    return where if filters.checksum is None else [*where, _has_checksum(filters.checksum)]


def _has_checksum(checksum: bytes) -> ColumnElement[bool]:
    """Two indexes hold the checksums: one of uploads, one of files of libraries."""
    is_upload, same = _asset.c.library_id.is_(None), _asset.c.checksum == checksum
    return or_(same & is_upload, same & ~is_upload)


def _where_between(filters: AssetFilters) -> list[ColumnElement[bool]]:
    spans = (
        (_asset.c.file_created_at, filters.taken_after, filters.taken_before),
        (_asset.c.created_at, filters.created_after, filters.created_before),
        (_asset.c.updated_at, filters.updated_after, filters.updated_before),
        (_asset.c.deleted_at, filters.trashed_after, filters.trashed_before),
        (_file.c.size, filters.min_file_size, filters.max_file_size),
    )
    after = [column >= earliest for column, earliest, _ in spans if earliest is not None]
    return after + [column <= latest for column, _, latest in spans if latest is not None]
