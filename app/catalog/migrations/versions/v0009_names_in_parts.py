"""Table `download_part`: member names of downloads that are split into several archives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "download_part",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("name_count", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "digest", name="pk_download_part"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_download_part_owner_id", ondelete="CASCADE"),
    )
    op.create_index("ix_download_part_expires_at", "download_part", ["expires_at"])


def downgrade() -> None:
    op.drop_table("download_part")
