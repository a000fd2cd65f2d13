"""Maintenance of the kept counts: adds up what triggers have inserted, and compares the counts with the rows that they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Select, Table, delete, func, insert, literal, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database
from app.catalog.database.locations import PostgresLocation
from app.catalog.database.month_functions import Month, MonthText
from app.catalog.files import ID_BATCH_SIZE
from app.catalog.schema import tables
from app.catalog.schema.records import FileState

FOLD_BATCH = 5000
"""Rows that one transaction adds up."""
S3_PATH_PREFIX = "s3://"

_asset = tables.asset
_asset_count = tables.asset_count
_file = tables.file
_file_count = tables.file_count


@dataclass(frozen=True, slots=True)
class CountDifference:
    """How many `groups` (such as one user's photos of a month) have a kept count that is not the number of rows in `table`, and of how
    many `owners` they are."""

    table: str
    groups: int
    owners: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """A table of counts: the columns of a group, the sums, and the same from the rows that are counted."""

    table: Table
    counted_table: str
    group: tuple[Column[Any], ...]
    amounts: tuple[Column[Any], ...]
    counted: Select[*tuple[Any, ...]]

    def select_differences(self) -> Select[*tuple[Any, ...]]:
        """The groups whose kept and counted amounts differ, with the differences. One statement, so of one moment."""
        kept = select(*self.group, *(-amount for amount in self.amounts))
        both = union_all(self.counted, kept).subquery()
        columns = list(both.c)
        group, amounts = columns[: len(self.group)], columns[len(self.group) :]
        sums = [func.sum(amount) for amount in amounts]
        is_different = sums[0] != 0
        for each in sums[1:]:
            is_different |= each != 0
        return select(*group, *sums).group_by(*group).having(is_different)


_COUNTS = (
    _Counts(
        _asset_count,
        _asset.name,
        (
            _asset_count.c.owner_id,
            _asset_count.c.library_id,
            _asset_count.c.month,
            _asset_count.c.type,
            _asset_count.c.visibility,
            _asset_count.c.is_favorite,
            _asset_count.c.is_trashed,
        ),
        (_asset_count.c.assets,),
        select(
            _asset.c.owner_id,
            _asset.c.library_id,
            MonthText(Month(_asset.c.local_date_time)),
            _asset.c.type,
            _asset.c.visibility,
            _asset.c.is_favorite,
            _asset.c.deleted_at.is_not(None),
            literal(1, BigInteger),
        ),
    ),
    _Counts(
        _file_count,
        _file.name,
        (_file_count.c.owner_id, _file_count.c.kind, _file_count.c.is_image, _file_count.c.is_remote),
        (_file_count.c.files, _file_count.c.bytes),
        select(
            _file.c.owner_id,
            _file.c.kind,
            func.substr(_file.c.mime_type, 1, len("image/")) == "image/",
            func.substr(_file.c.path, 1, len(S3_PATH_PREFIX)) == S3_PATH_PREFIX,
            literal(1, BigInteger),
            func.coalesce(_file.c.size, 0),
        ).where(_file.c.state == FileState.LIVE),
    ),
)


class KeptCountRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def fold(self) -> int:
        """Add rows that triggers have inserted to the totals. Returns how many. No sum changes, whoever reads or writes meanwhile:
        rows that another transaction has locked are left alone, so several processes may fold at once and none waits."""
        folded = 0
        for counts in _COUNTS:
            while count := await self._fold_some(counts):
                folded += count
        return folded

    async def find_differences(self) -> list[CountDifference]:
        """Where kept counts differ from the rows. It reads all assets and files once, and may run while others write."""
        found: list[CountDifference] = []
        async with self._database.snapshot_connection() as connection:
            for counts in _COUNTS:
                groups = counts.select_differences().subquery()
                wrong = select(func.count(), func.count(groups.c.owner_id.distinct())).select_from(groups)
                number, owners = (await connection.execute(wrong)).one()
                if number:
                    found.append(CountDifference(counts.counted_table, number, owners))
        return found

    async def correct(self) -> None:
        """Make the kept counts those of the rows. The differences are inserted like those of triggers, so changes that others commit
        meanwhile are neither lost nor counted twice."""
        for counts in _COUNTS:
            names = [column.name for column in (*counts.group, *counts.amounts, counts.table.c.is_delta)]
            differences = counts.select_differences().add_columns(true())
            async with self._database.long_write() as connection:
                await _lift_time_limit(connection, self._database)
                await connection.execute(insert(counts.table).from_select(names, differences))
        await self.fold()

    async def _fold_some(self, counts: _Counts) -> int:
        table = counts.table
        columns = (*counts.group, *counts.amounts)
        deltas = select(table.c.id, *columns).where(table.c.is_delta).order_by(table.c.id).limit(FOLD_BATCH)
        async with self._database.read() as connection:  # most often there are none, so nothing is locked
            if (await connection.execute(deltas.limit(1))).first() is None:
                return 0
        async with self._database.write() as connection:
            added = (await connection.execute(deltas.with_for_update(skip_locked=True))).all()
            groups = {tuple(row)[1 : 1 + len(counts.group)] for row in added}
            totals = await _lock_totals(connection, counts, groups)
            rows = [*added, *totals]
            for start in range(0, len(rows), ID_BATCH_SIZE):
                ids = [row.id for row in rows[start : start + ID_BATCH_SIZE]]
                await connection.execute(delete(table).where(table.c.id.in_(ids)))
            if values := _add_up(counts, rows):
                await connection.execute(insert(table), values)
        return len(added)


async def _lock_totals(
    connection: AsyncConnection, counts: _Counts, groups: set[tuple[Any, ...]]
) -> Sequence[tuple[Any, ...]]:
    """The totals of these groups."""
    table, found = counts.table, []
    owners = list({group[0] for group in groups})
    for start in range(0, len(owners), ID_BATCH_SIZE):
        mine = table.c.owner_id.in_(owners[start : start + ID_BATCH_SIZE])
        totals = select(table.c.id, *counts.group, *counts.amounts).where(mine, ~table.c.is_delta)
        if len(months := list({group[2] for group in groups})) < ID_BATCH_SIZE and "month" in table.c:
            totals = totals.where(table.c.month.in_(months))
        rows = (await connection.execute(totals.with_for_update(skip_locked=True))).all()
        found += [row for row in rows if tuple(row)[1 : 1 + len(counts.group)] in groups]
    return found


def _add_up(counts: _Counts, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """One row for each group, but for groups of which nothing is left."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        values = tuple(row)[1:]
        group, amounts = values[: len(counts.group)], values[len(counts.group) :]
        known = sums.get(group, [0] * len(amounts))
        sums[group] = [a + b for a, b in zip(known, amounts, strict=True)]
    names = [column.name for column in (*counts.group, *counts.amounts)]
    return [
        {**dict(zip(names, (*group, *amounts), strict=True)), "is_delta": False}
        for group, amounts in sums.items()
        if any(amounts)
    ]


async def _lift_time_limit(connection: AsyncConnection, database: Database) -> None:
    if isinstance(database.location, PostgresLocation):
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
