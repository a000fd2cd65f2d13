"""Tables `asset_count` and `file_count`, and the triggers that change them with each change of `asset` and `file`.

Triggers, and not the program: processes of the version before, which work on while this revision is applied, are
counted, too. On PostgreSQL a trigger inserts a row for each change, and locks and awaits nothing. On SQLite, where
one transaction writes at a time, it changes the row of the total.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

Values = Mapping[str, str]
"""Columns of a table of counts, each with its SQL expression; `{row}` is the row that is counted."""

ASSET_GROUP = {
    "owner_id": "{row}.owner_id",
    "library_id": "{row}.library_id",
    "type": "{row}.type",
    "visibility": "{row}.visibility",
    "is_favorite": "{row}.is_favorite",
    "is_trashed": "({row}.deleted_at IS NOT NULL)",
}
ASSET_AMOUNTS = {"assets": "1"}
ASSET_COLUMNS = ("owner_id", "library_id", "local_date_time", "type", "visibility", "is_favorite", "deleted_at")
MONTH = {
    "sqlite": "substr({row}.local_date_time, 1, 7)",
    "postgresql": "to_char({row}.local_date_time AT TIME ZONE 'UTC', 'YYYY-MM')",
}
FILE_GROUP = {
    "owner_id": "{row}.owner_id",
    "kind": "{row}.kind",
    "is_image": "(substr({row}.mime_type, 1, 6) = 'image/')",
    "is_remote": "(substr({row}.path, 1, 5) = 's3://')",
}
FILE_AMOUNTS = {"files": "1", "bytes": "coalesce({row}.size, 0)"}
FILE_COLUMNS = ("owner_id", "kind", "mime_type", "path", "state", "size")
FILE_CONDITION = "{row}.state = 'live'"


def upgrade() -> None:
    _create_tables()
    dialect = op.get_bind().dialect.name
    create_triggers = _create_postgresql_triggers if dialect == "postgresql" else _create_sqlite_triggers
    counted = (
        ("asset", ASSET_GROUP | {"month": MONTH[dialect]}, ASSET_AMOUNTS, ASSET_COLUMNS, "1 = 1"),
        ("file", FILE_GROUP, FILE_AMOUNTS, FILE_COLUMNS, FILE_CONDITION),
    )
    # The triggers first: creating them locks out writers on PostgreSQL until the transaction ends, so none is missed.
    for table, group, amounts, columns, condition in counted:
        create_triggers(table, group, amounts, columns, condition)
        _fill(table, group, amounts, condition)


def downgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for table in ("asset", "file"):
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER count_{table}_{event}{f' ON {table}' if is_postgresql else ''}")
        if is_postgresql:
            op.execute(f"DROP FUNCTION count_{table}()")
        op.drop_table(f"{table}_count")


def _create_tables() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "asset_count",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("library_id", sa.Uuid(), nullable=True),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("visibility", sa.String(), nullable=False),
        sa.Column("is_favorite", sa.Boolean(), nullable=False),
        sa.Column("is_trashed", sa.Boolean(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.Column("is_delta", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_asset_count"),
    )
    op.create_index("ix_asset_count_owner_id_month", "asset_count", ["owner_id", "month"])
    op.create_table(
        "file_count",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("is_image", sa.Boolean(), nullable=False),
        sa.Column("is_remote", sa.Boolean(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_delta", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_file_count"),
    )
    op.create_index("ix_file_count_owner_id", "file_count", ["owner_id"])
    for table in ("asset_count", "file_count"):
        is_delta = sa.text("is_delta")
        op.create_index(f"ix_{table}_delta", table, ["id"], sqlite_where=is_delta, postgresql_where=is_delta)


def _fill(table: str, group: Values, amounts: Values, condition: str) -> None:
    values = [each.format(row=table) for each in group.values()]
    sums = [f"sum({each.format(row=table)})" for each in amounts.values()]
    op.execute(
        f"INSERT INTO {table}_count ({', '.join([*group, *amounts, 'is_delta'])}) "  # noqa: S608 - names of this module
        f"SELECT {', '.join([*values, *sums, 'false'])} FROM {table} WHERE {condition.format(row=table)} "
        f"GROUP BY {', '.join(values)}"
    )


def _create_postgresql_triggers(
    table: str, group: Values, amounts: Values, columns: tuple[str, ...], condition: str
) -> None:
    names = ", ".join([*group, *amounts, "is_delta"])

    def insert(row: str, sign: str) -> str:
        values = [each.format(row=row) for each in group.values()]
        values += [f"{sign} {each.format(row=row)}" for each in amounts.values()]
        addition = f"INSERT INTO {table}_count ({names}) VALUES ({', '.join(values)}, true);"  # noqa: S608
        return f"IF {condition.format(row=row)} THEN {addition} END IF;"

    op.execute(
        f"CREATE OR REPLACE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP <> 'INSERT' THEN {insert('OLD', '-')} END IF; "
        f"IF TG_OP <> 'DELETE' THEN {insert('NEW', '')} END IF; "
        "RETURN NULL; END $$"
    )
    for event, row in (("insert", "NEW"), ("delete", "OLD")):
        op.execute(
            f"CREATE TRIGGER count_{table}_{event} AFTER {event} ON {table} FOR EACH ROW "
            f"WHEN ({condition.format(row=row)}) EXECUTE FUNCTION count_{table}()"
        )
    before, after = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    op.execute(
        f"CREATE TRIGGER count_{table}_update AFTER UPDATE OF {', '.join(columns)} ON {table} FOR EACH ROW "
        f"WHEN (({before}) IS DISTINCT FROM ({after})) EXECUTE FUNCTION count_{table}()"
    )


def _create_sqlite_triggers(
    table: str, group: Values, amounts: Values, columns: tuple[str, ...], condition: str
) -> None:
    def change(row: str, sign: str) -> Iterator[str]:
        """The statements that add a row to the totals, or subtract it; with a condition for each of them."""
        counted = condition.format(row=row)
        groups = [each.format(row=row) for each in group.values()]
        sums = [f"{sign} {each.format(row=row)}" for each in amounts.values()]
        same = " AND ".join(
            [f"{name} IS {value}" for name, value in zip(group, groups, strict=True)] + ["NOT is_delta"]
        )
        changed = ", ".join(f"{name} = {name} + ({value})" for name, value in zip(amounts, sums, strict=True))
        yield f"UPDATE {table}_count SET {changed} WHERE {same} AND {counted};"  # noqa: S608
        yield (
            f"INSERT INTO {table}_count ({', '.join([*group, *amounts, 'is_delta'])}) "
            f"SELECT {', '.join([*groups, *sums, 'false'])} WHERE changes() = 0 AND {counted};"
        )
        if sign:
            nothing = " AND ".join(f"{name} = 0" for name in amounts)
            yield f"DELETE FROM {table}_count WHERE {same} AND {nothing};"  # noqa: S608

    subtraction, addition = " ".join(change("OLD", "-")), " ".join(change("NEW", ""))
    op.execute(
        f"CREATE TRIGGER count_{table}_insert AFTER INSERT ON {table} "
        f"WHEN {condition.format(row='NEW')} BEGIN {addition} END"
    )
    op.execute(
        f"CREATE TRIGGER count_{table}_delete AFTER DELETE ON {table} "
        f"WHEN {condition.format(row='OLD')} BEGIN {subtraction} END"
    )
    is_changed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in columns)
    op.execute(
        f"CREATE TRIGGER count_{table}_update AFTER UPDATE OF {', '.join(columns)} ON {table} "
        f"WHEN {is_changed} BEGIN {subtraction} {addition} END"
    )
