"""`file.copy_of`: the foreign file that the object of a row is a copy of. The row outlives the ledger item that told so until now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_FILL = """
UPDATE file SET copy_of = (SELECT item.file_id FROM migration_item AS item WHERE item.twin_id = file.id)
WHERE state = 'writing' AND id IN (
    SELECT item.twin_id FROM migration_item AS item LEFT JOIN file AS source ON source.id = item.file_id
    WHERE item.state = 'kept' OR source.is_foreign)
"""
"""Copies that were kept, and those that are being made."""


def upgrade() -> None:
    op.add_column("file", sa.Column("copy_of", sa.Uuid(), nullable=True))
    op.execute(_FILL)


def downgrade() -> None:
    op.drop_column("file", "copy_of")
