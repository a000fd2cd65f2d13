"""Column `asset.folded_name`: names folded by case and normalization, for searches. `app.catalog.assets.folded_name_backfill`
fills it in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("asset", sa.Column("folded_name", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("asset", "folded_name")
