"""The rows of links to zip archives: created with a manifest, found by token, deleted when they expire or are revoked. Only the hash of a link's token is stored."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select

from app.catalog.database.engine import Database, now
from app.catalog.errors import ConstraintViolation, NotFound
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.catalog.schema.records import Archive, ArchiveLinkSummary

_archive = tables.archive
_immich_session = tables.immich_session
_key = tables.api_key
_session = tables.session
_COLUMNS = [_archive.c[field] for field in Archive.__dataclass_fields__]
_LINK_COLUMNS = [_archive.c[field] for field in ArchiveLinkSummary.__dataclass_fields__]


class ArchiveLinkRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        owner_id: UUID,
        name: str,
        manifest: bytes,
        token_hash: bytes,
        expires_at: datetime,
        credential_id: UUID | None = None,
    ) -> Archive:
        """Raises `NotFound` for an unknown owner."""
        made = Archive(uuid4(), owner_id, name, manifest, now(), expires_at, credential_id)
        values = {field: getattr(made, field) for field in Archive.__dataclass_fields__}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(_archive).values(**values, token_hash=token_hash))
        except ConstraintViolation:
            raise NotFound("user", [owner_id]) from None
        return made

    async def get_by_hash(self, token_hash: bytes, moment: datetime) -> Archive | None:
        """The archive of this token; None when it is unknown or no longer valid at `moment`."""
        statement = select(*_COLUMNS).where(_archive.c.token_hash == token_hash, _where_valid_at(moment))
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else Archive(*row)

    async def is_open(self, token_hash: bytes, moment: datetime) -> bool:
        """Whether `get_by_hash` would find an archive, without reading its manifest."""
        statement = select(_archive.c.id).where(_archive.c.token_hash == token_hash, _where_valid_at(moment))
        async with self._database.read() as connection:
            return (await connection.execute(statement)).one_or_none() is not None

    async def list(self, owner_id: UUID, moment: datetime) -> list[ArchiveLinkSummary]:
        """Links of the owner that are valid at `moment`, newest first."""
        mine = select(*_LINK_COLUMNS).where(_archive.c.owner_id == owner_id, _where_valid_at(moment))
        async with self._database.read() as connection:
            rows = await connection.execute(mine.order_by(_archive.c.created_at.desc(), _archive.c.id.desc()))
            return [ArchiveLinkSummary(*row) for row in rows]

    async def delete(self, owner_id: UUID, link_ids: Iterable[UUID]) -> None:
        """Raises `NotFound` with the ids that are not links of this owner; then none is deleted."""
        requested = dict.fromkeys(link_ids)
        async with self._database.write() as connection:
            deleted: set[UUID] = set()
            for batch in iterate_batches(requested):
                mine = delete(_archive).where(_archive.c.owner_id == owner_id, _archive.c.id.in_(batch))
                deleted.update((await connection.execute(mine.returning(_archive.c.id))).scalars())
            unknown = [link_id for link_id in requested if link_id not in deleted]
            if unknown:
                raise NotFound("link", unknown)

    async def delete_expired(self, moment: datetime) -> int:
        """Returns how many were deleted. Links whose key or session is gone have expired, too."""
        async with self._database.write() as connection:
            return (await connection.execute(delete(_archive).where(~_where_valid_at(moment)))).rowcount


def _where_valid_at(moment: datetime) -> ColumnElement[bool]:
    credential = _archive.c.credential_id
    key = exists().where(_key.c.id == credential)
    sessions = [
        exists().where(each.c.id == credential, each.c.expires_at > moment) for each in (_session, _immich_session)
    ]
    return (_archive.c.expires_at > moment) & or_(credential.is_(None), key, *sessions)
