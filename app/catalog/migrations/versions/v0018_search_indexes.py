"""Indexes for searches: pages of a search are found without reading the rows of the pages before, random choices without
those of other users, files of libraries by their checksum, and assets without a folded name without reading all others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

BY_DATE = "ix_asset_owner_id_file_created_at_id"
BY_ID = "ix_asset_owner_id_id"
UNFOLDED = "ix_asset_unfolded"
EXTERNAL_CHECKSUM = "ix_asset_owner_id_checksum_external"


def upgrade() -> None:
    columns = ["owner_id", "file_created_at", "id", "visibility", "deleted_at", "is_favorite", "type"]
    op.drop_index(BY_DATE, "asset")
    op.create_index(BY_DATE, "asset", columns)
    op.create_index(BY_ID, "asset", ["owner_id", "id"])
    _create_partial_index(UNFOLDED, ["id"], "folded_name IS NULL")
    _create_partial_index(EXTERNAL_CHECKSUM, ["owner_id", "checksum"], "library_id IS NOT NULL")


def downgrade() -> None:
    for name in (BY_DATE, BY_ID, UNFOLDED, EXTERNAL_CHECKSUM):
        op.drop_index(name, "asset")
    op.create_index(BY_DATE, "asset", ["owner_id", "file_created_at", "id"])


def _create_partial_index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "asset", columns, sqlite_where=where, postgresql_where=where)
