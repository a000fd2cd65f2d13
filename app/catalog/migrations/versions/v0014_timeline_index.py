"""An index for the timeline: the months of an owner are counted, and the assets of a month found, without reading the rows
of all others."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEX = "ix_asset_owner_id_local_date_time_id"


def upgrade() -> None:
    columns = ["owner_id", "local_date_time", "id", "visibility", "deleted_at", "is_favorite"]
    op.create_index(INDEX, "asset", columns)


def downgrade() -> None:
    op.drop_index(INDEX, "asset")
