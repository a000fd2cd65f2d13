"""Fills in the folded names that searches compare, for assets that an older version inserted without one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update

from app.catalog.database.engine import Database
from app.catalog.files import iterate_batches
from app.catalog.schema import tables
from app.unicode_folding import fold_case

SCAN_BATCH_SIZE = 10_000
"""Ids that one query reads."""

_asset = tables.asset


class FoldedNameBackfill:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill_missing(self) -> int:
        """Returns how many names were filled in. Each batch is a short transaction, so names that remain after a kill
        are found by the next call. Several processes may run it at once."""
        filled = 0
        last: UUID | None = None
        while True:
            missing, last = await self._find_missing(last)
            for batch in iterate_batches(missing):
                filled += await self._fill_batch(batch)
            if last is None:
                return filled

    async def _find_missing(self, after: UUID | None) -> tuple[Sequence[UUID], UUID | None]:
        """The next ids without a folded name, and the last of them; None: there are no more."""
        missing = select(_asset.c.id).where(_asset.c.folded_name.is_(None)).order_by(_asset.c.id)
        if after is not None:
            missing = missing.where(_asset.c.id > after)
        async with self._database.read() as connection:
            found = (await connection.execute(missing.limit(SCAN_BATCH_SIZE))).scalars().all()
        return found, found[-1] if len(found) == SCAN_BATCH_SIZE else None

    async def _fill_batch(self, asset_ids: list[UUID]) -> int:
        # Skip locked rows: their transaction may rename them, and waiting could deadlock. The next call fills them in.
        names = (
            select(_asset.c.id, _asset.c.original_file_name)
            .where(_asset.c.id.in_(asset_ids), _asset.c.folded_name.is_(None))
            .with_for_update(skip_locked=True)
        )
        fill = (
            update(_asset).where(_asset.c.id == bindparam("of_asset")).values(folded_name=bindparam("new_folded_name"))
        )
        async with self._database.write() as connection:
            rows = [
                {"of_asset": asset_id, "new_folded_name": fold_case(name)}
                for asset_id, name in await connection.execute(names)
            ]
            if rows:
                await connection.execute(fill, rows)
        return len(rows)
