"""Column `archive.credential_id`: the key or session whose end also ends the link."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("archive", sa.Column("credential_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("archive", "credential_id")
