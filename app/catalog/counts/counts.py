"""Counts of assets and sums of bytes, as clients show and poll them. They are read from the kept counts, whose number of rows
depends on users and months, and not on assets."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, func, select

from app.catalog.database.engine import Database
from app.catalog.schema import tables
from app.catalog.schema.records import AccountUsage, AssetStatistics, AssetType, FileKind, Visibility

_asset_count = tables.asset_count
_file_count = tables.file_count
_user = tables.user

_ORIGINAL_KINDS = (FileKind.ORIGINAL, FileKind.EXTERNAL)


class CountRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_statistics(
        self,
        owner_id: UUID,
        *,
        trashed: bool = False,
        visibility: Visibility | None = None,
        is_favorite: bool | None = None,
    ) -> AssetStatistics:
        """`visibility` None: timeline and archive."""
        total = func.sum(_asset_count.c.assets)
        where = where_counted(owner_id, trashed=trashed, visibility=visibility, is_favorite=is_favorite)
        statement = select(_asset_count.c.type, total).where(*where).group_by(_asset_count.c.type)
        async with self._database.read() as connection:
            counts = {row[0]: int(row[1]) for row in await connection.execute(statement)}
        images, videos = counts.get(AssetType.IMAGE, 0), counts.get(AssetType.VIDEO, 0)
        return AssetStatistics(images, videos, images + videos)

    async def get_usage_by_user(self) -> list[AccountUsage]:
        """The usage of every user, oldest user first."""
        async with self._database.read() as connection:
            rows = await connection.execute(_select_usage_by_user())
            return [_usage_from_values(*row) for row in rows]

    async def sum_bytes_by_kind(
        self, owner_id: UUID | None = None, *, only_remote: bool = False
    ) -> dict[UUID, dict[FileKind, int]]:
        """Bytes of the live files of each owner (or of `owner_id` only) by kind. `only_remote`: of files in S3."""
        columns = (_file_count.c.owner_id, _file_count.c.kind)
        where: list[ColumnElement[bool]] = [_file_count.c.is_remote] if only_remote else []
        if owner_id is not None:
            where.append(_file_count.c.owner_id == owner_id)
        has_files = func.sum(_file_count.c.files) > 0
        statement = select(*columns, func.sum(_file_count.c.bytes)).where(*where).group_by(*columns).having(has_files)
        sizes: dict[UUID, dict[FileKind, int]] = {}
        async with self._database.read() as connection:
            for owner, kind, size in await connection.execute(statement):
                sizes.setdefault(owner, {})[kind] = int(size)  # PostgreSQL sums bigints into a decimal
        return sizes

    async def count_live_files(self) -> int:
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.coalesce(func.sum(_file_count.c.files), 0)))).scalar_one())

    async def count_by_library(self) -> dict[UUID, int]:
        """The number of assets of each library that are not in the trash; libraries without any are left out."""
        library_id, total = _asset_count.c.library_id, func.sum(_asset_count.c.assets)
        present = (library_id.is_not(None), ~_asset_count.c.is_trashed)
        statement = select(library_id, total).where(*present).group_by(library_id).having(total > 0)
        async with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(statement)}


def where_counted(
    owner_id: UUID, *, trashed: bool, visibility: Visibility | None, is_favorite: bool | None
) -> list[ColumnElement[bool]]:
    """The rows of `asset_count` to sum up. `visibility` None: timeline and archive."""
    visibilities = [Visibility.TIMELINE, Visibility.ARCHIVE] if visibility is None else [visibility]
    where = [
        _asset_count.c.owner_id == owner_id,
        _asset_count.c.visibility.in_(visibilities),
        _asset_count.c.is_trashed if trashed else ~_asset_count.c.is_trashed,
    ]
    if is_favorite is not None:
        where.append(_asset_count.c.is_favorite if is_favorite else ~_asset_count.c.is_favorite)
    return where


def _select_usage_by_user() -> Select[UUID, str, int, int, int, int, int, int | None]:
    """Sizes of videos are those of uploads: the size of a photo includes the video inside, and files of libraries take no space."""
    photos = case((_asset_count.c.type == AssetType.IMAGE, _asset_count.c.assets), else_=0)
    videos = case((_asset_count.c.type == AssetType.VIDEO, _asset_count.c.assets), else_=0)
    owner_id = _asset_count.c.owner_id
    assets = select(owner_id, func.sum(photos).label("photos"), func.sum(videos).label("videos"))
    assets = assets.group_by(owner_id).subquery()
    is_image, kind = _file_count.c.is_image, _file_count.c.kind
    of_photos = case((is_image & kind.in_(_ORIGINAL_KINDS), _file_count.c.bytes), else_=0)
    of_videos = case((~is_image & (kind == FileKind.ORIGINAL), _file_count.c.bytes), else_=0)
    owner_id = _file_count.c.owner_id
    files = select(owner_id, func.sum(of_photos).label("photos"), func.sum(of_videos).label("videos"))
    files = files.group_by(owner_id).subquery()
    sums = (func.coalesce(each, 0) for each in (assets.c.photos, assets.c.videos, files.c.photos, files.c.videos))
    joined = _user.outerjoin(assets, assets.c.owner_id == _user.c.id).outerjoin(files, files.c.owner_id == _user.c.id)
    statement = select(_user.c.id, _user.c.name, *sums, _user.c.used, _user.c.quota).select_from(joined)
    return statement.order_by(_user.c.created_at, _user.c.id)


def _usage_from_values(
    user_id: UUID, name: str, photos: int, videos: int, photo_bytes: int, video_bytes: int, used: int, quota: int | None
) -> AccountUsage:
    # PostgreSQL sums bigints into a decimal.
    photos, videos, photo_bytes, video_bytes = int(photos), int(videos), int(photo_bytes), int(video_bytes)
    return AccountUsage(user_id, name, photos, videos, photo_bytes + video_bytes, photo_bytes, video_bytes, used, quota)
