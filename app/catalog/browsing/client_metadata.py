"""The metadata that a client sent with an upload: kept for clients, and not interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import String, cast, select

from app.catalog.database.engine import Database
from app.catalog.schema import tables

_asset = tables.asset


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """`text` is a JSON object, which older versions did not bound: it may be nested too deep for a parser."""

    text: str
    stored_at: datetime


class ClientMetadataRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, owner_id: UUID, asset_id: UUID) -> ClientMetadata | None:
        """None when the owner has no such asset."""
        mine = (_asset.c.id == asset_id) & (_asset.c.owner_id == owner_id)
        async with self._database.read() as connection:
            found = await connection.execute(
                select(cast(_asset.c.metadata, String).label("text"), _asset.c.created_at).where(mine)
            )
            row = found.one_or_none()
        return None if row is None else ClientMetadata(row.text or "{}", row.created_at)
