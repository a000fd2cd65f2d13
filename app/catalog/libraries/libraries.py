"""External libraries: settings, state, scan reports and removal of each. Their files are in `library_files`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, Select, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, LibraryChanged, NotFound
from app.catalog.schema import tables
from app.catalog.schema.library_records import Library, LibraryChanges, LibraryState, LibraryUsage, ScanReport
from app.catalog.schema.records import AssetType

_asset = tables.asset
_file = tables.file
_folder = tables.library_folder
_library_file = tables.library_file
_library = tables.library


class LibraryRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, owner_id: UUID, name: str, import_paths: tuple[str, ...], exclusion_patterns: tuple[str, ...]
    ) -> Library:
        """Raises `NotFound` for an unknown owner."""
        moment = now()
        created = Library(
            id=uuid4(),
            owner_id=owner_id,
            name=name,
            import_paths=import_paths,
            exclusion_patterns=exclusion_patterns,
            created_at=moment,
            updated_at=moment,
            deleted_at=None,
            state=LibraryState.OK,
            state_since=moment,
            state_error=None,
            scanned_at=None,
            files=0,
            mounts=(),
            watch=None,
            last_scan=None,
        )
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_library).values(_library_values(created)))
        except ConstraintViolation:
            raise NotFound("user", [owner_id]) from None
        return created

    async def get(self, library_id: UUID) -> Library | None:
        """The library; None also when it is being removed."""
        statement = select(_library).where(_library.c.id == library_id, _library.c.deleted_at.is_(None))
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _library_from_row(row)

    async def list(self) -> list[Library]:
        """All libraries, oldest first, including those that are being removed."""
        statement = select(_library).order_by(_library.c.created_at, _library.c.id)
        async with self._database.read() as connection:
            return [_library_from_row(row) for row in await connection.execute(statement)]

    async def update(self, library_id: UUID, changes: LibraryChanges) -> Library | None:
        """Change a library; None when there is none. Also resets the folders' digests, so that the next scan compares
        every file: other files may belong to the library now."""
        values: dict[str, Any] = {**changes, "updated_at": now()}
        mine = (_library.c.id == library_id) & _library.c.deleted_at.is_(None)
        async with self._database.write() as connection:
            row = (await connection.execute(update(_library).where(mine).values(values).returning(_library))).first()
            if row is not None:
                await connection.execute(update(_folder).where(_folder.c.library_id == library_id).values(digest=None))
        return None if row is None else _library_from_row(row)

    async def set_state(self, library_id: UUID, state: LibraryState, error: str | None) -> bool:
        """Returns True when the state changed; `state_since` is then now. If only `error` differs, only the text is
        replaced."""
        values = {
            "state": state,
            "state_error": error,
            "state_since": case((_library.c.state == state, _library.c.state_since), else_=now()),
        }
        mine = _library.c.id == library_id
        is_different = or_(_library.c.state != state, func.coalesce(_library.c.state_error, "") != (error or ""))
        async with self._database.write() as connection:
            before = (await connection.execute(select(_library.c.state).where(mine))).scalar_one_or_none()
            await connection.execute(update(_library).where(mine, is_different).values(values))
        return before is not None and before is not state

    async def set_watch_status(self, library_id: UUID, watch: str | None) -> None:
        async with self._database.write() as connection:
            await connection.execute(update(_library).where(_library.c.id == library_id).values(watch=watch))

    async def check_unchanged(self, library: Library) -> None:
        """Raises `LibraryChanged` when import paths or exclusion patterns differ from `library`, `NotFound` when the
        library is gone or being removed."""
        async with self._database.read() as connection:
            await _check_unchanged(connection, library, _select_library(library))

    async def store_scan_report(self, library: Library, report: ScanReport, mounts: tuple[str, ...] | None) -> None:
        """Store a scan's report and the mount points that it saw (None: unchanged). A complete scan also updates
        `scanned_at` and `files`, with which the next scans compare. Raises as `check_unchanged`."""
        values: dict[str, Any] = {"last_scan": _report_to_json(report)}
        if mounts is not None:
            values["mounts"] = list(mounts)
        async with self._database.write() as connection:
            await lock_library(connection, library)
            if report.complete:
                joined = _library_file.join(_folder, _library_file.c.folder_id == _folder.c.id)
                present = (_folder.c.library_id == library.id) & _library_file.c.missing_since.is_(None)
                files = await connection.execute(select(func.count()).select_from(joined).where(present))
                values |= {"scanned_at": now(), "files": files.scalar_one()}
            await connection.execute(update(_library).where(_library.c.id == library.id).values(values))

    async def mark_for_removal(self, library_id: UUID) -> bool:
        """Mark the library as being removed: nothing is added to it from now on. `AssetRepository.delete_from_library`
        and `delete_marked` do the rest. Returns False when it was marked already or does not exist."""
        mine = (_library.c.id == library_id) & _library.c.deleted_at.is_(None)
        async with self._database.write() as connection:
            return (await connection.execute(update(_library).where(mine).values(deleted_at=now()))).rowcount == 1

    async def delete_marked(self, library_id: UUID) -> None:
        """Delete the row of a library that is marked for removal and has no assets left."""
        marked = (_library.c.id == library_id) & _library.c.deleted_at.is_not(None)
        async with self._database.write() as connection:
            await connection.execute(delete(_library).where(marked))

    async def get_usage(self, library_id: UUID) -> LibraryUsage:
        statement = (
            select(_asset.c.type, func.count(), func.sum(_file.c.size))
            .join(_file, _asset.c.file_id == _file.c.id)
            .where(_asset.c.library_id == library_id, _asset.c.deleted_at.is_(None))
            .group_by(_asset.c.type)
        )
        async with self._database.read() as connection:
            rows = {row[0]: (row[1], int(row[2] or 0)) for row in await connection.execute(statement)}
        photos, videos = (rows.get(kind, (0, 0))[0] for kind in (AssetType.IMAGE, AssetType.VIDEO))
        return LibraryUsage(photos, videos, photos + videos, sum(size for _, size in rows.values()))

    async def get_unmounted(self) -> dict[UUID, Library]:
        """Libraries whose files cannot be seen, by id."""
        statement = select(_library).where(_library.c.state == LibraryState.UNMOUNTED, _library.c.deleted_at.is_(None))
        async with self._database.read() as connection:
            return {row.id: _library_from_row(row) for row in await connection.execute(statement)}


async def lock_library(connection: AsyncConnection, library: Library) -> UUID:
    """Lock the library's row and return its owner: until the transaction ends, nobody can change the library or mark it
    for removal. Raises `NotFound`, `LibraryChanged`."""
    return await _check_unchanged(connection, library, _select_library(library).with_for_update(read=True))


def _select_library(library: Library) -> Select[UUID, Any, Any]:
    is_current = (_library.c.id == library.id) & _library.c.deleted_at.is_(None)
    return select(_library.c.owner_id, _library.c.import_paths, _library.c.exclusion_patterns).where(is_current)


async def _check_unchanged(connection: AsyncConnection, library: Library, statement: Select[UUID, Any, Any]) -> UUID:
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound("library", [library.id])
    if (tuple(row.import_paths), tuple(row.exclusion_patterns)) != (library.import_paths, library.exclusion_patterns):
        raise LibraryChanged(library.id)
    return row.owner_id


def _library_from_row(row: Row[Any]) -> Library:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    for name in ("import_paths", "exclusion_patterns", "mounts"):
        values[name] = tuple(values[name])
    values["last_scan"] = None if values["last_scan"] is None else _report_from_json(values["last_scan"])
    return Library(**values)


def _report_from_json(stored: dict[str, Any]) -> ScanReport:
    moment = datetime.fromisoformat(stored["started_at"])
    return ScanReport(**{**stored, "started_at": moment, "unreadable": tuple(stored["unreadable"])})


def _report_to_json(report: ScanReport) -> dict[str, Any]:
    return asdict(report) | {"started_at": report.started_at.isoformat(), "unreadable": list(report.unreadable)}


def _library_values(library: Library) -> dict[str, Any]:
    lists = {name: list(getattr(library, name)) for name in ("import_paths", "exclusion_patterns", "mounts")}
    return {column.name: getattr(library, column.name) for column in _library.c} | lists
