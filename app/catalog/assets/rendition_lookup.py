"""Finds the files to serve for an asset, a person or a user, each with one query. It decides nothing about which file
answers a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.assets.asset_queries import JOINED_COLUMNS, asset_from_row, select_assets_with_files
from app.catalog.database.engine import Database
from app.catalog.database.prepared_statements import prepare
from app.catalog.files import file_from_row, iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, File, FileKind, TaskState

_asset = tables.asset
_derivative = tables.derivative
_file = tables.file
_derived_file = tables.file.alias("made")
_person = tables.person
_task = tables.task
_user = tables.user

_SELECT_FAILURE = prepare(
    select(_task.c.error).where(_task.c.state == TaskState.FAILED, _task.c.asset_id == bindparam("asset_id"))
)
_TASK_COLUMNS = (_task.c.state, _task.c.not_before, _task.c.error)


@dataclass(frozen=True, slots=True)
class ProcessingState:
    """The state of an asset's task; fields as in `Task`."""

    state: TaskState
    not_before: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class AssetRenditions:
    """An asset, its derivatives by kind, and the state of its task; `processing` None: the asset needs no processing."""

    asset: Asset
    files: Mapping[FileKind, File]
    processing: ProcessingState | None


@dataclass(frozen=True, slots=True)
class PortraitFile:
    """The image of a person or a user, and the id of its owner."""

    owner_id: UUID
    file: File


class RenditionRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_for_asset(self, asset_id: UUID) -> AssetRenditions | None:
        """The asset's files, whoever owns it; None when there is no such asset."""
        statement = (
            select_assets_with_files()
            .add_columns(*_TASK_COLUMNS, _derivative.c.kind, *_derived_file.c)
            .outerjoin(_task, _task.c.asset_id == _asset.c.id)
            .outerjoin(_derivative, _derivative.c.asset_id == _asset.c.id)
            .outerjoin(_derived_file, _derivative.c.file_id == _derived_file.c.id)
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
                made[kind] = file_from_row(tuple(file))
        state, not_before, error = tuple(rows[0])[JOINED_COLUMNS : JOINED_COLUMNS + len(_TASK_COLUMNS)]
        progress = None if state is None else ProcessingState(state, not_before, error)
        return AssetRenditions(asset_from_row(rows[0]), made, progress)

    async def get_failure_reasons(self, asset_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The reasons of failed processing; assets whose task has not failed are left out."""
        failed = select(_task.c.asset_id, _task.c.error).where(_task.c.state == TaskState.FAILED)
        requested = list(asset_ids)
        if len(requested) == 1:
            return await self._database.query(partial(_find_failure_reason, requested[0]))
        reasons: dict[UUID, str] = {}
        async with self._database.read() as connection:
            for batch in iterate_batches(requested):
                rows = await connection.execute(failed.where(_task.c.asset_id.in_(batch)))
                reasons.update((asset_id, error or "unknown") for asset_id, error in rows)
        return reasons

    async def get_for_person(self, person_id: UUID) -> PortraitFile | None:
        """The person's thumbnail, whoever owns the person; None when there is none."""
        statement = select(_person.c.owner_id, *_file.c).join(_file, _person.c.thumbnail_file_id == _file.c.id)
        return await self._get_portrait(statement, _person.c.id == person_id)

    async def get_for_user(self, user_id: UUID) -> PortraitFile | None:
        """The user's profile image; None when there is none."""
        statement = select(_user.c.id, *_file.c).join(_file, _user.c.profile_file_id == _file.c.id)
        return await self._get_portrait(statement, _user.c.id == user_id)

    async def _get_portrait(
        self, statement: Select[*tuple[Any, ...]], condition: ColumnElement[bool]
    ) -> PortraitFile | None:
        async with self._database.read() as connection:
            row = (await connection.execute(statement.where(condition))).one_or_none()
        if row is None:
            return None
        owner_id, *file = tuple(row)
        return PortraitFile(owner_id, file_from_row(tuple(file)))


async def _find_failure_reason(asset_id: UUID, connection: AsyncConnection) -> dict[UUID, str]:
    row = (await connection.execute(_SELECT_FAILURE, {"asset_id": asset_id})).one_or_none()
    return {} if row is None else {asset_id: row[0] or "unknown"}
