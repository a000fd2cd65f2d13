"""Table `archive`: links to zip archives, each with its manifest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "archive",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_archive"),
        sa.UniqueConstraint("token_hash", name="uq_archive_token_hash"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_archive_owner_id", ondelete="CASCADE"),
    )
    op.create_index("ix_archive_owner_id", "archive", ["owner_id"])
    op.create_index("ix_archive_expires_at", "archive", ["expires_at"])


def downgrade() -> None:
    op.drop_table("archive")
