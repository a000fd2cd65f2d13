"""Takes over users with their profile images, API keys, and persons. Each method may be repeated: what is as it should be stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.accounts.users import validate_email
from app.catalog.assets.asset_removal import mark_live_for_deletion
from app.catalog.database.engine import Database
from app.catalog.errors import EmailTaken
from app.catalog.files import iterate_batches
from app.catalog.imports.imported_files import remove_replaced_file, replace_file
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportedKey, ImportedPerson, ImportedUser

_file = tables.file
_foreign_session = tables.immich_session
_imported_key = tables.immich_key
_imported_user = tables.immich_user
_key = tables.api_key
_person = tables.person
_session = tables.session
_user = tables.user


class ImportedAccountRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_user_ids(self) -> set[UUID]:
        """The users who were taken over."""
        async with self._database.read() as connection:
            return set((await connection.execute(select(_imported_user.c.user_id))).scalars())

    async def check_email(self, user_id: UUID, email: str) -> None:
        """Raises `EmailTaken` and `InvalidEmail` where `apply_user` would."""
        async with self._database.read() as connection:
            await self._refuse_taken_email(connection, user_id, validate_email(email))

    async def apply_user(self, user: ImportedUser) -> None:
        """Insert or update the user. A password that the user has now stays as long as the source's is the one that was read last. Raises
        `EmailTaken` when another user has the address, `InvalidEmail`, and `OutsideForeignRoots`."""
        values: dict[str, Any] = {
            "email": validate_email(user.email), "name": user.name, "is_admin": user.is_admin, "quota": user.quota,
            "profile_changed_at": user.profile_changed_at, "created_at": user.created_at, "updated_at": user.updated_at,
        }  # fmt: skip
        async with self._database.write() as connection:
            await self._refuse_taken_email(connection, user.id, values["email"])
            known = (await connection.execute(select(_user).where(_user.c.id == user.id))).mappings().one_or_none()
            read = select(_imported_user.c.password_hash).where(_imported_user.c.user_id == user.id)
            imported = (await connection.execute(read)).one_or_none()
            if known is None:
                row = {**values, "id": user.id, "used": 0, "password_hash": user.password_hash}
                await connection.execute(insert(_user).values(row))
            elif imported is None or imported.password_hash != user.password_hash:
                values["password_hash"] = user.password_hash
            await _remember_password(connection, user, is_new=imported is None)
            former = None if known is None else known["profile_file_id"]
            values["profile_file_id"], is_file_changed = await replace_file(
                connection, user.id, former, user.profile_image
            )
            changed = known is None or is_file_changed or any(known[name] != value for name, value in values.items())
            if changed:
                await connection.execute(update(_user).where(_user.c.id == user.id).values(values))
                await remove_replaced_file(connection, user.id, former, values["profile_file_id"])

    async def close_accounts(self, user_ids: Iterable[UUID]) -> None:
        """Users whom the source has deleted can no longer log in, and their keys and sessions end."""
        async with self._database.write() as connection:
            ids = list(user_ids)
            imported = select(_imported_user.c.user_id).where(_imported_user.c.user_id.in_(ids))
            known = list((await connection.execute(imported)).scalars())
            for table in (_key, _session, _foreign_session):
                await connection.execute(delete(table).where(table.c.user_id.in_(known)))
            await connection.execute(update(_user).where(_user.c.id.in_(known)).values(password_hash=None))
            reset = update(_imported_user).where(_imported_user.c.user_id.in_(known)).values(password_hash=None)
            await connection.execute(reset)

    async def apply_keys(self, keys: Sequence[ImportedKey], owners: Sequence[UUID]) -> list[UUID]:
        """Insert, update and revoke keys, so that those of `owners` which were taken over are these. Returns those that were left out, as
        another key has their hash."""
        refused: list[UUID] = []
        async with self._database.write() as connection:
            kept = {key.id for key in keys}
            mine = select(_key.c.id).where(_key.c.user_id.in_(owners))
            imported = select(_imported_key.c.key_id).where(_imported_key.c.key_id.in_(mine))
            known = set((await connection.execute(imported)).scalars())
            for batch in iterate_batches(known - kept):
                await connection.execute(delete(_key).where(_key.c.id.in_(batch)))
            for key in keys:
                same = select(_key.c.id).where(_key.c.key_hash == key.key_hash, _key.c.id != key.id)
                if (await connection.execute(same)).first() is not None:
                    refused.append(key.id)
                    continue
                await _write_key(connection, key, is_new=key.id not in known)
        return refused

    async def apply_persons(self, persons: Sequence[ImportedPerson]) -> None:
        """Raises `OutsideForeignRoots`."""
        async with self._database.write() as connection:
            for person in persons:
                await _write_person(connection, person)

    async def get_persons_with_foreign_thumbnail(self, after: UUID, limit: int) -> list[tuple[UUID, UUID]]:
        """Ids and owners of persons whose thumbnail is a foreign file, by ascending id."""
        joined = select(_person.c.id, _person.c.owner_id).join(_file, _file.c.id == _person.c.thumbnail_file_id)
        page = joined.where(_file.c.is_foreign, _person.c.id > after).order_by(_person.c.id).limit(limit)
        async with self._database.read() as connection:
            return [(row.id, row.owner_id) for row in await connection.execute(page)]

    async def remove_persons(self, persons: Iterable[tuple[UUID, UUID]]) -> None:
        """Delete persons, given with their owners. The files of their thumbnails stay where they are."""
        async with self._database.write() as connection:
            for person_id, owner_id in persons:
                gone = delete(_person).where(_person.c.id == person_id).returning(_person.c.thumbnail_file_id)
                file_id = (await connection.execute(gone)).scalar_one_or_none()
                if file_id is not None:
                    await mark_live_for_deletion(connection, owner_id, [file_id])

    async def _refuse_taken_email(self, connection: AsyncConnection, user_id: UUID, email: str) -> None:
        taken = select(_user.c.id).where(_user.c.email == email, _user.c.id != user_id)
        if (await connection.execute(taken)).first() is not None:
            raise EmailTaken(email)


async def _remember_password(connection: AsyncConnection, user: ImportedUser, *, is_new: bool) -> None:
    values = {"user_id": user.id, "password_hash": user.password_hash}
    if is_new:
        await connection.execute(insert(_imported_user).values(values))
    else:
        mine = _imported_user.c.user_id == user.id
        await connection.execute(update(_imported_user).where(mine).values(values))


async def _write_key(connection: AsyncConnection, key: ImportedKey, *, is_new: bool) -> None:
    values = {
        "user_id": key.user_id, "name": key.name, "key_hash": key.key_hash, "permissions": list(key.permissions),
        "created_at": key.created_at, "updated_at": key.updated_at,
    }  # fmt: skip
    changed = await connection.execute(update(_key).where(_key.c.id == key.id).values(values))
    if changed.rowcount == 0:
        await connection.execute(insert(_key).values(id=key.id, **values))
    if is_new:
        await connection.execute(insert(_imported_key).values(key_id=key.id))


async def _write_person(connection: AsyncConnection, person: ImportedPerson) -> None:
    known = (await connection.execute(select(_person).where(_person.c.id == person.id))).mappings().one_or_none()
    values: dict[str, Any] = {
        "owner_id": person.owner_id, "name": person.name, "created_at": person.created_at, "updated_at": person.updated_at,
    }  # fmt: skip
    if known is None:
        await connection.execute(insert(_person).values(id=person.id, **values))
    former = None if known is None else known["thumbnail_file_id"]
    file_id, is_file_changed = await replace_file(connection, person.owner_id, former, person.thumbnail)
    if is_file_changed or known is None or any(known[name] != value for name, value in values.items()):
        values["thumbnail_file_id"] = file_id
        await connection.execute(update(_person).where(_person.c.id == person.id).values(values))
        await remove_replaced_file(connection, person.owner_id, former, file_id)
