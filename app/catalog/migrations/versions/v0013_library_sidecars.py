"""Columns of `library_file` for the sidecar that a scan found beside the file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("library_file", sa.Column("sidecar_name", sa.String(), nullable=True))
    op.add_column("library_file", sa.Column("sidecar_size", sa.BigInteger(), nullable=True))
    op.add_column("library_file", sa.Column("sidecar_mtime_ns", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in ("sidecar_mtime_ns", "sidecar_size", "sidecar_name"):
        op.drop_column("library_file", name)
