"""Logins at Immich that are accepted here, as the last import or `follow` has read them: table `immich_session`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, insert, select, update

from app.catalog.accounts.api_keys_and_sessions import find_with_user
from app.catalog.database.engine import Database
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportedSession
from app.catalog.schema.records import Session, User

RENEW_AFTER = timedelta(hours=1)
"""A later end is stored when it is so much later: not at each look."""

_session = tables.immich_session
_COLUMNS = [column for column in _session.c if column.name != "token_hash"]


class ImmichSessionRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def replace_all(self, sessions: Sequence[ImportedSession]) -> None:
        """From now on these are all there are. Their users must exist."""
        async with self._database.write() as connection:
            known = {row.id: row for row in await connection.execute(select(_session))}
            same: set[UUID] = set()
            for session in sessions:
                row = known.get(session.id)
                if row is None or (row.user_id, row.token_hash) != (session.user_id, session.token_hash):
                    continue
                same.add(session.id)
                if not timedelta(0) <= session.expires_at - row.expires_at < RENEW_AFTER:
                    mine = update(_session).where(_session.c.id == session.id)
                    await connection.execute(mine.values(expires_at=session.expires_at))
            for batch in iterate_batches(known.keys() - same):
                await connection.execute(delete(_session).where(_session.c.id.in_(batch)))
            for session in sessions:
                if session.id not in same:
                    await connection.execute(insert(_session).values(asdict(session)))

    async def get_by_hash(self, token_hash: bytes, moment: datetime) -> tuple[Session, User] | None:
        """The session and its user; None when it is unknown, or expired at `moment`."""
        condition = (_session.c.token_hash == token_hash) & (_session.c.expires_at > moment)
        found = await find_with_user(self._database, _COLUMNS, _session.c.user_id, condition)
        return None if found is None else (Session(**found[0], is_foreign=True), found[1])

    async def list(self, user_id: UUID, moment: datetime) -> list[Session]:
        """The user's sessions that have not expired at `moment`, the latest first."""
        mine = (_session.c.user_id == user_id) & (_session.c.expires_at > moment)
        statement = select(*_COLUMNS).where(mine).order_by(_session.c.created_at.desc(), _session.c.id)
        async with self._database.read() as connection:
            return [Session(**row, is_foreign=True) for row in (await connection.execute(statement)).mappings()]

    async def delete_all(self) -> int:
        """Returns how many were deleted."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_session))).rowcount

    async def delete_expired(self, moment: datetime) -> int:
        """Returns how many were deleted."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_session).where(_session.c.expires_at <= moment))).rowcount
