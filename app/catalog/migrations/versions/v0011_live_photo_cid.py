"""Column `asset.live_photo_cid` and its index: the content identifier by which live photos are paired. It is filled in
when a file is read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INDEX = "ix_asset_owner_id_live_photo_cid"


def upgrade() -> None:
    op.add_column("asset", sa.Column("live_photo_cid", sa.String(), nullable=True))
    known = sa.text("live_photo_cid IS NOT NULL")
    op.create_index(INDEX, "asset", ["owner_id", "live_photo_cid"], sqlite_where=known, postgresql_where=known)


def downgrade() -> None:
    op.drop_index(INDEX, "asset")
    op.drop_column("asset", "live_photo_cid")
