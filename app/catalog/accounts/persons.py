"""Persons in a user's photos, with their thumbnails, and the profile images of users. Nothing here detects faces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.asset_removal import REPLACED_FILE_GRACE, mark_live_for_deletion
from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, NotFound, WriteLeaseLost
from app.catalog.files import make_live, mark_unfinished_for_deletion
from app.catalog.schema import tables
from app.catalog.schema.records import Person, StoredFile

_asset = tables.asset
_person = tables.person
_user = tables.user


class PersonRepository:
    """Images are replaced as derivatives are: the new file replaces the one that the caller saw, which is marked for
    deletion in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner_id: UUID, name: str | None = None) -> Person:
        """Raises `NotFound` for an unknown owner."""
        moment = now()
        made = Person(uuid4(), owner_id, name, None, None, moment, moment)
        values = {column.name: getattr(made, column.name) for column in _person.c}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_person).values(values))
        except ConstraintViolation:
            raise NotFound("user", [owner_id]) from None
        return made

    async def get_or_create(self, owner_id: UUID, person_id: UUID) -> Person | None:
        """The person with this id, created if there is none; None when it belongs to another user. Raises `NotFound`
        for an unknown owner."""
        known = await self.get_owned(owner_id, person_id)
        if known is not None:
            return known
        moment = now()
        made = Person(person_id, owner_id, None, None, None, moment, moment)
        values = {column.name: getattr(made, column.name) for column in _person.c}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_person).values(values))
        except ConstraintViolation:  # created meanwhile, or another user's
            return await self.get_owned(owner_id, person_id)
        return made

    async def get_owned(self, owner_id: UUID, person_id: UUID) -> Person | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(_person).where(_where_owned(owner_id, person_id)))).one_or_none()
        return None if row is None else Person(*row)

    async def list(self, owner_id: UUID) -> list[Person]:
        """Oldest first."""
        statement = select(_person).where(_person.c.owner_id == owner_id).order_by(_person.c.created_at, _person.c.id)
        async with self._database.read() as connection:
            return [Person(*row) for row in await connection.execute(statement)]

    async def rename(self, owner_id: UUID, person_id: UUID, name: str | None) -> Person | None:
        """Returns None when the owner has no such person."""
        changed = update(_person).where(_where_owned(owner_id, person_id)).values(name=name, updated_at=now())
        async with self._database.write() as connection:
            row = (await connection.execute(changed.returning(_person))).one_or_none()
        return None if row is None else Person(*row)

    async def delete(self, owner_id: UUID, person_id: UUID) -> bool:
        """Also marks the thumbnail for deletion, in the same transaction. Returns False when the owner has no such
        person."""
        async with self._database.write() as connection:
            await quota.lock_owner(connection, owner_id)
            gone = delete(_person).where(_where_owned(owner_id, person_id)).returning(_person.c.thumbnail_file_id)
            row = (await connection.execute(gone)).one_or_none()
            if row is not None and row.thumbnail_file_id is not None:
                await mark_live_for_deletion(connection, owner_id, [row.thumbnail_file_id])
        return row is not None

    async def replace_thumbnail(
        self, owner_id: UUID, person_id: UUID, asset_id: UUID, expected_file_id: UUID | None, stored: StoredFile
    ) -> bool:
        """Make `stored`, which was cut from the asset, the person's thumbnail, if the current one is
        `expected_file_id`; else return False. If it returns False, or raises `NotFound` (person or asset) or
        `WriteLeaseLost`, the new file is marked for deletion."""

        async def replace(connection: AsyncConnection) -> UUID | None:
            person = select(_person.c.thumbnail_file_id).where(_where_owned(owner_id, person_id)).with_for_update()
            row = (await connection.execute(person)).one_or_none()
            if row is None:
                raise NotFound("person", [person_id])
            asset = select(_asset.c.id).where(_asset.c.id == asset_id, _asset.c.owner_id == owner_id)
            if (await connection.execute(asset)).one_or_none() is None:
                raise NotFound("asset", [asset_id])
            if row.thumbnail_file_id == expected_file_id:
                values = {"thumbnail_file_id": stored.file_id, "thumbnail_asset_id": asset_id, "updated_at": now()}
                await connection.execute(update(_person).where(_where_owned(owner_id, person_id)).values(values))
            return row.thumbnail_file_id

        return await self._swap_image(owner_id, expected_file_id, stored, replace)

    async def replace_profile_image(
        self, user_id: UUID, expected_file_id: UUID | None, stored: StoredFile | None
    ) -> bool:
        """As `replace_thumbnail`, for a user's profile image; `stored` None removes it. Raises `NotFound`,
        `WriteLeaseLost`."""

        async def replace(connection: AsyncConnection) -> UUID | None:
            user = select(_user.c.profile_file_id).where(_user.c.id == user_id).with_for_update()
            row = (await connection.execute(user)).one_or_none()
            if row is None:
                raise NotFound("user", [user_id])
            if row.profile_file_id == expected_file_id:
                moment = now()
                values = {
                    "profile_file_id": None if stored is None else stored.file_id,
                    "profile_changed_at": moment,
                    "updated_at": moment,
                }
                await connection.execute(update(_user).where(_user.c.id == user_id).values(values))
            return row.profile_file_id

        return await self._swap_image(user_id, expected_file_id, stored, replace)

    async def _swap_image(
        self,
        owner_id: UUID,
        expected_file_id: UUID | None,
        stored: StoredFile | None,
        replace: Callable[[AsyncConnection], Awaitable[UUID | None]],
    ) -> bool:
        """`replace` sets the reference to the new file if the current file is `expected_file_id`, and returns the
        current file."""
        new = [] if stored is None else [stored]
        try:
            async with self._database.write() as connection:
                await quota.lock_owner(connection, owner_id)
                if await replace(connection) != expected_file_id:
                    await mark_unfinished_for_deletion(connection, [each.file_id for each in new])
                    return False
                for each in new:
                    await make_live(connection, owner_id, each)
                await mark_live_for_deletion(
                    connection,
                    owner_id,
                    [expected_file_id] if expected_file_id else [],
                    REPLACED_FILE_GRACE if new else timedelta(0),
                )
        except (WriteLeaseLost, NotFound):
            async with self._database.write() as connection:
                await mark_unfinished_for_deletion(connection, [each.file_id for each in new])
            raise
        return True


def _where_owned(owner_id: UUID, person_id: UUID):
    return (_person.c.id == person_id) & (_person.c.owner_id == owner_id)
