"""SQLite: table `asset_name_index`, the full-text index of names for searches, with triggers that take out what is deleted or renamed.
`app.catalog.assets.name_index` puts names in, some time after their assets were inserted: one statement for many names costs a twentieth of
a trigger for each. On PostgreSQL that module makes an index, which needs no revision.

`asset_name_progress` has one row: all assets up to `last_row` are in the index, and the asset of that row is `last_id`.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_log = logging.getLogger(__name__)

INDEX, PROGRESS = "asset_name_index", "asset_name_progress"
TRIGGERS = ("unindex_asset_name", "reindex_asset_name")
IS_INDEXED = f"OLD.rowid <= (SELECT last_row FROM {PROGRESS})"  # noqa: S608 - names of this module
TAKE_OUT = (
    f"INSERT INTO {INDEX} ({INDEX}, rowid, folded_name) "
    "SELECT 'delete', OLD.rowid, OLD.folded_name WHERE OLD.folded_name IS NOT NULL;"
)
PUT_IN = (
    f"INSERT INTO {INDEX} (rowid, folded_name) SELECT NEW.rowid, NEW.folded_name WHERE NEW.folded_name IS NOT NULL;"
)
# SQLite gives the number of the last row again after its deletion, so `last_row` is always that of an asset that exists.
STEP_BACK = (
    f"UPDATE {PROGRESS} SET last_row = coalesce((SELECT max(rowid) FROM asset WHERE rowid < OLD.rowid), 0), "  # noqa: S608
    "last_id = (SELECT id FROM asset WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1) "
    "WHERE last_row = OLD.rowid AND last_id = OLD.id;"
)


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    _drop()  # a restore leaves them
    try:
        op.execute(
            f"CREATE VIRTUAL TABLE {INDEX} USING fts5(folded_name, content='asset', detail=none, columnsize=0, "
            "tokenize='trigram case_sensitive 1')"
        )
    except OperationalError as error:
        _log.warning("searches by name read all of a user's assets: SQLite has no FTS5 with trigrams (%s)", error.orig)
        return
    op.create_table(
        PROGRESS, sa.Column("last_row", sa.BigInteger(), nullable=False), sa.Column("last_id", sa.Uuid(), nullable=True)
    )
    op.execute(f"INSERT INTO {PROGRESS} VALUES (0, NULL)")  # noqa: S608
    taken_out, renamed = TRIGGERS
    op.execute(f"CREATE TRIGGER {taken_out} AFTER DELETE ON asset WHEN {IS_INDEXED} BEGIN {TAKE_OUT} {STEP_BACK} END")
    op.execute(
        f"CREATE TRIGGER {renamed} AFTER UPDATE OF folded_name ON asset "
        f"WHEN OLD.folded_name IS NOT NEW.folded_name AND {IS_INDEXED} BEGIN {TAKE_OUT} {PUT_IN} END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _drop()


def _drop() -> None:
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name}")
    for name in (INDEX, PROGRESS):
        op.execute(f"DROP TABLE IF EXISTS {name}")
