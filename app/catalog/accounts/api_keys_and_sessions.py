"""API keys and sessions. Only hashes of keys and tokens are stored; the caller computes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, RowMapping, delete, exists, insert, select, update

from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, NotFound
from app.catalog.schema import tables
from app.catalog.schema.records import ApiKey, Session, User

_key = tables.api_key
_session = tables.session
_user = tables.user
_IS_IMPORTED = exists().where(tables.immich_key.c.key_id == _key.c.id).correlate(_key).label("is_imported")
_KEY_COLUMNS = [*(column for column in _key.c if column.name != "key_hash"), _IS_IMPORTED]
_SESSION_COLUMNS = [column for column in _session.c if column.name != "token_hash"]


class ApiKeyRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: UUID, name: str, permissions: Iterable[str], key_hash: bytes) -> ApiKey:
        """Raises `NotFound` for an unknown user."""
        moment = now()
        values = {
            "id": uuid4(),
            "user_id": user_id,
            "name": name,
            "permissions": list(permissions),
            "created_at": moment,
            "updated_at": moment,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_key).values(**values, key_hash=key_hash))
        except ConstraintViolation:
            raise NotFound("user", [user_id]) from None
        return _api_key_from_row(values)

    async def get_by_hash(self, key_hash: bytes) -> tuple[ApiKey, User] | None:
        """The key with this hash, and its user."""
        columns, condition = _KEY_COLUMNS, _key.c.key_hash == key_hash
        found = await find_with_user(self._database, columns, _key.c.user_id, condition)
        return None if found is None else (_api_key_from_row(found[0]), found[1])

    async def list(self, user_id: UUID | None = None) -> list[ApiKey]:
        """Keys of a user, or of every user when `user_id` is None; oldest first."""
        statement = select(*_KEY_COLUMNS).order_by(_key.c.created_at, _key.c.id)
        if user_id is not None:
            statement = statement.where(_key.c.user_id == user_id)
        async with self._database.read() as connection:
            return [_api_key_from_row(row) for row in (await connection.execute(statement)).mappings()]

    async def get(self, user_id: UUID, key_id: UUID) -> ApiKey | None:
        statement = select(*_KEY_COLUMNS).where(_key.c.id == key_id, _key.c.user_id == user_id)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else _api_key_from_row(row)

    async def update(
        self, user_id: UUID, key_id: UUID, name: str | None = None, permissions: Iterable[str] | None = None
    ) -> ApiKey | None:
        """A None leaves `name` or `permissions` unchanged. Returns None when the user has no such key."""
        values: dict[str, Any] = {"updated_at": now()}
        if name is not None:
            values["name"] = name
        if permissions is not None:
            values["permissions"] = list(permissions)
        statement = update(_key).where(_key.c.id == key_id, _key.c.user_id == user_id).values(values)
        async with self._database.write() as connection:
            row = (await connection.execute(statement.returning(*_KEY_COLUMNS))).mappings().one_or_none()
        return None if row is None else _api_key_from_row(row)

    async def delete(self, user_id: UUID, key_id: UUID) -> bool:
        """Returns False when the user has no such key."""
        return await self._delete((_key.c.id == key_id) & (_key.c.user_id == user_id))

    async def delete_any(self, key_id: UUID) -> bool:
        """Delete the key of any user: for the operator."""
        return await self._delete(_key.c.id == key_id)

    async def _delete(self, condition: ColumnElement[bool]) -> bool:
        async with self._database.write() as connection:
            return (await connection.execute(delete(_key).where(condition))).rowcount > 0


class SessionRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, user_id: UUID, token_hash: bytes, expires_at: datetime, api_key_id: UUID | None = None
    ) -> Session:
        """Raises `NotFound` for an unknown user or key."""
        created = Session(id=uuid4(), user_id=user_id, expires_at=expires_at, created_at=now(), api_key_id=api_key_id)
        values = {column.name: getattr(created, column.name) for column in _SESSION_COLUMNS}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_session).values(**values, token_hash=token_hash))
        except ConstraintViolation:
            raise NotFound("user or key", [api_key_id or user_id]) from None
        return created

    async def get_by_hash(self, token_hash: bytes, moment: datetime) -> tuple[Session, User] | None:
        """The session and its user; None when it is unknown, or expired at `moment`."""
        condition = (_session.c.token_hash == token_hash) & (_session.c.expires_at > moment)
        found = await find_with_user(self._database, _SESSION_COLUMNS, _session.c.user_id, condition)
        return None if found is None else (Session(**found[0]), found[1])

    async def list(self, user_id: UUID) -> list[Session]:
        """The user's sessions that have not expired, the latest first."""
        mine = (_session.c.user_id == user_id) & (_session.c.expires_at > now())
        statement = select(*_SESSION_COLUMNS).where(mine).order_by(_session.c.created_at.desc(), _session.c.id)
        async with self._database.read() as connection:
            return [Session(**row) for row in (await connection.execute(statement)).mappings()]

    async def delete(self, user_id: UUID, session_id: UUID) -> bool:
        """Returns False when the user has no such session."""
        mine = (_session.c.user_id == user_id) & (_session.c.id == session_id)
        async with self._database.write() as connection:
            return (await connection.execute(delete(_session).where(mine))).rowcount > 0

    async def delete_others(self, user_id: UUID, kept_id: UUID | None) -> None:
        """Delete the user's sessions but `kept_id`."""
        others = _session.c.user_id == user_id
        if kept_id is not None:
            others &= _session.c.id != kept_id
        async with self._database.write() as connection:
            await connection.execute(delete(_session).where(others))

    async def delete_by_hash(self, token_hash: bytes) -> bool:
        async with self._database.write() as connection:
            result = await connection.execute(delete(_session).where(_session.c.token_hash == token_hash))
            return result.rowcount > 0

    async def delete_expired(self, moment: datetime) -> int:
        """Returns how many were deleted."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_session).where(_session.c.expires_at <= moment))).rowcount


async def find_with_user(
    database: Database, columns: list[Any], user_id: Any, condition: ColumnElement[bool]
) -> tuple[dict[str, Any], User] | None:
    """A credential's columns as a dictionary, and its user."""
    statement = select(*columns, *_user.c).join(_user, user_id == _user.c.id).where(condition)
    async with database.read() as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    values = tuple(row)
    credential = dict(zip((column.name for column in columns), values[: len(columns)], strict=True))
    return credential, User(**dict(zip(_user.c.keys(), values[len(columns) :], strict=True)))


def _api_key_from_row(row: RowMapping | dict[str, Any]) -> ApiKey:
    return ApiKey(**{**row, "permissions": tuple(row["permissions"])})
