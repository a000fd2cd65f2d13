"""Column `asset.sidecar_error`: why the sidecar was ignored when the metadata was read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("asset", sa.Column("sidecar_error", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("asset", "sidecar_error")
