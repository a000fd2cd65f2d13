"""What there is to show of assets, persons and users: their files, each read in one go for delivery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select

from app.catalog import tables
from app.catalog.asset_search import JOINED_COLUMNS, asset_of, joined
from app.catalog.engine import Database
from app.catalog.files import batches, file_of
from app.catalog.records import Asset, File, FileKind, TaskState

_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_made = tables.file.alias("made")
_person = tables.person
_task = tables.task
_user = tables.user

_TASK_COLUMNS = (_task.c.state, _task.c.not_before, _task.c.error)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an asset's processing is: as in `Task`."""

    state: TaskState
    not_before: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class AssetPictures:
    """An asset, what was made of it, and how far that is; without `progress` nothing is to be made."""

    asset: Asset
    made: Mapping[FileKind, File]
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Portrait:
    """The one picture of a person or a user."""

    owner_id: UUID
    file: File


class Pictures:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_asset(self, asset_id: UUID) -> AssetPictures | None:
        """Whoever owns it."""
        statement = (
            joined()
            .add_columns(*_TASK_COLUMNS, _derivative.c.kind, *_made.c)
            .outerjoin(_task, _task.c.asset_id == _asset.c.id)
            .outerjoin(_derivative, _derivative.c.asset_id == _asset.c.id)
            .outerjoin(_made, _derivative.c.file_id == _made.c.id)
            .where(_asset.c.id == asset_id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        if not rows:
            return None
        made: dict[FileKind, File] = {}
        for row in rows:
            kind, *file = tuple(row)[JOINED_COLUMNS + len(_TASK_COLUMNS) :]
            if kind is not None:
                made[kind] = file_of(tuple(file))
        state, not_before, error = tuple(rows[0])[JOINED_COLUMNS : JOINED_COLUMNS + len(_TASK_COLUMNS)]
        progress = None if state is None else Progress(state, not_before, error)
        return AssetPictures(asset_of(rows[0]), made, progress)

    async def failures_of(self, asset_ids: Iterable[UUID]) -> dict[UUID, str]:
        """Why the processing of those of the assets was given up for which it was."""
        failed = select(_task.c.asset_id, _task.c.error).where(_task.c.state == TaskState.FAILED)
        found: dict[UUID, str] = {}
        async with self._database.read() as connection:
            for batch in batches(asset_ids):
                rows = await connection.execute(failed.where(_task.c.asset_id.in_(batch)))
                found.update((asset_id, error or "unknown") for asset_id, error in rows)
        return found

    async def of_person(self, person_id: UUID) -> Portrait | None:
        """Whoever the person belongs to; None also for one without a picture."""
        statement = select(_person.c.owner_id, *_file.c).join(_file, _person.c.thumbnail_file_id == _file.c.id)
        return await self._portrait(statement, _person.c.id == person_id)

    async def of_user(self, user_id: UUID) -> Portrait | None:
        """None also for one without a picture."""
        statement = select(_user.c.id, *_file.c).join(_file, _user.c.profile_file_id == _file.c.id)
        return await self._portrait(statement, _user.c.id == user_id)

    async def _portrait(self, statement: Select[*tuple[Any, ...]], condition: ColumnElement[bool]) -> Portrait | None:
        async with self._database.read() as connection:
            row = (await connection.execute(statement.where(condition))).one_or_none()
        if row is None:
            return None
        owner_id, *file = tuple(row)
        return Portrait(owner_id, file_of(tuple(file)))
