"""Compares kept counts with the rows of assets and files by plain SQL; uses none of the code under test."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

MONTH = {
    "sqlite": "substr(local_date_time, 1, 7)",
    "postgresql": "to_char(local_date_time AT TIME ZONE 'UTC', 'YYYY-MM')",
}
COUNTED_ASSETS = """
    SELECT owner_id, library_id, {month}, type, visibility, is_favorite, deleted_at IS NOT NULL, count(*)
    FROM asset GROUP BY 1, 2, 3, 4, 5, 6, 7"""
KEPT_ASSETS = """
    SELECT owner_id, library_id, month, type, visibility, is_favorite, is_trashed, sum(assets)
    FROM asset_count GROUP BY 1, 2, 3, 4, 5, 6, 7"""
COUNTED_FILES = """
    SELECT owner_id, kind, mime_type LIKE 'image/%', path LIKE 's3://%', count(*), sum(coalesce(size, 0))
    FROM file WHERE state = 'live' GROUP BY 1, 2, 3, 4"""
KEPT_FILES = """
    SELECT owner_id, kind, is_image, is_remote, sum(files), sum(bytes)
    FROM file_count GROUP BY 1, 2, 3, 4"""


def find_wrong_counts(connection: sa.Connection) -> list[str]:
    """One line for each group whose kept count is not the number of its rows."""
    month = MONTH[connection.dialect.name]
    return [
        *_compare(connection, COUNTED_ASSETS.format(month=month), KEPT_ASSETS, amounts=1),
        *_compare(connection, COUNTED_FILES, KEPT_FILES, amounts=2),
    ]


def _compare(connection: sa.Connection, counted: str, kept: str, *, amounts: int) -> list[str]:
    rows, counts = (_sum(connection, statement, amounts) for statement in (counted, kept))
    groups = rows.keys() | counts.keys()
    return [f"{group}: {counts[group]} kept, {rows[group]} there" for group in groups if rows[group] != counts[group]]


def _sum(connection: sa.Connection, statement: str, amounts: int) -> Counter[tuple[str, ...]]:
    """By group and number of the amount."""
    sums = Counter[tuple[str, ...]]()
    for row in connection.execute(sa.text(statement)):
        values = tuple(row)
        group = values[:-amounts]
        for number, amount in enumerate(values[-amounts:]):
            sums[(*map(_normalize, group), str(number))] += int(amount)
    return sums


def _normalize(value: object) -> str:
    """SQLite has numbers in place of booleans."""
    return str(int(value)) if isinstance(value, bool) else str(value)
