"""Removal of users: marks a user, removes what is theirs in batches, and at last the user's row, once the sweeper has
deleted all of their files. Files of external libraries are not touched.

Any number of processes may do so at once and be killed at any point: the mark stays until the row is deleted.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.asset_removal import mark_live_for_deletion, remove_assets
from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation
from app.catalog.schema import tables
from app.catalog.schema.upload_records import UploadState
from app.catalog.uploads.upload_rows import end_uploads

_asset = tables.asset
_file = tables.file
_installation = tables.installation
_library = tables.library
_person = tables.person
_upload = tables.upload
_user = tables.user

_FLAG = "removed-user:"
"""A flag of the installation whose name is this and a user's id, with the time of the removal as its value."""


class UserRemovalRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def mark(self, user_id: UUID) -> list[UUID]:
        """Begin the removal: the user's keys, logins, password and links work no more, their unfinished uploads end, and their
        libraries are marked for removal. Does nothing for an unknown user, or for one that is marked already. Returns the links that ended."""
        try:
            async with self._database.write() as connection:
                await quota.lock_owner(connection, user_id)
                cleared = update(_user).where(_user.c.id == user_id).values(password_hash=None, updated_at=now())
                if (await connection.execute(cleared)).rowcount == 0:
                    return []
                flag = {"name": f"{_FLAG}{user_id}", "value": now().isoformat()}
                await connection.execute(insert(_installation).values(flag))
                for credentials in (tables.api_key, tables.session, tables.immich_session):
                    await connection.execute(delete(credentials).where(credentials.c.user_id == user_id))
                links = (
                    delete(tables.archive).where(tables.archive.c.owner_id == user_id).returning(tables.archive.c.id)
                )
                ended = list((await connection.execute(links)).scalars())
                mine = _upload.c.owner_id == user_id
                await end_uploads(connection, mine, UploadState.CANCELLED, now())
                libraries = (_library.c.owner_id == user_id) & _library.c.deleted_at.is_(None)
                await connection.execute(update(_library).where(libraries).values(deleted_at=now()))
        except ConstraintViolation:
            return []  # it is marked already
        return ended

    async def has_assets(self, user_id: UUID) -> bool:
        """Also in the trash."""
        async with self._database.read() as connection:
            mine = select(_asset.c.id).where(_asset.c.owner_id == user_id).limit(1)
            return (await connection.execute(mine)).first() is not None

    async def list_marked(self) -> dict[UUID, datetime]:
        """The users that are being removed, and since when."""
        flags = select(_installation).where(_installation.c.name.startswith(_FLAG, autoescape=True))
        async with self._database.read() as connection:
            return {
                UUID(row.name.removeprefix(_FLAG)): datetime.fromisoformat(row.value)
                for row in await connection.execute(flags)
            }

    async def remove_some(self, limit: int) -> int:
        """Remove at most `limit` assets of users that are being removed; with the last assets also persons and profile
        images. Returns how many; 0 at the end."""
        for user_id in await self.list_marked():
            async with self._database.write() as connection:
                await quota.lock_owner(connection, user_id)
                some = select(_asset.c.id).where(_asset.c.owner_id == user_id).limit(limit)
                asset_ids = list((await connection.execute(some)).scalars())
                if asset_ids:
                    return await remove_assets(connection, user_id, asset_ids)
                await _remove_portraits(connection, user_id)
        return 0

    async def delete_marked(self) -> int:
        """Delete the rows of users that are being removed and have nothing left. Returns how many."""
        deleted = 0
        for user_id in await self.list_marked():
            belongings = [exists().where(table.c.owner_id == user_id) for table in (_asset, _file, _library, _person)]
            belongings.append(exists().where(_upload.c.owner_id == user_id, _upload.c.cleanup_at.is_not(None)))
            nothing_left = delete(_user).where(_user.c.id == user_id, *(~each for each in belongings))
            try:
                async with self._database.write() as connection:
                    deleted += (await connection.execute(nothing_left)).rowcount
                    is_there = exists().where(_user.c.id == user_id)
                    flag = delete(_installation).where(_installation.c.name == f"{_FLAG}{user_id}", ~is_there)
                    await connection.execute(flag)
            except ConstraintViolation:
                continue  # a file was added at the same moment: the next call tries again
        return deleted


async def _remove_portraits(connection: AsyncConnection, user_id: UUID) -> None:
    persons = delete(_person).where(_person.c.owner_id == user_id).returning(_person.c.thumbnail_file_id)
    files = [file_id for file_id in (await connection.execute(persons)).scalars() if file_id]
    mine = _user.c.id == user_id
    files += [
        each for each in (await connection.execute(select(_user.c.profile_file_id).where(mine))).scalars() if each
    ]
    await connection.execute(update(_user).where(mine).values(profile_file_id=None))
    await mark_live_for_deletion(connection, user_id, files)
