"""Column `asset.exif_edits`: the EXIF values that a user has edited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("asset", sa.Column("exif_edits", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("asset", "exif_edits")
