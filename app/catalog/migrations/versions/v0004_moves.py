"""Tables `migration` and `migration_item`: the ledger of moves between disk and S3."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "migration",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_migration"),
    )
    op.create_table(
        "migration_item",
        sa.Column("migration_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("twin_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("source_path", sa.String(), nullable=False),
        sa.Column("target_path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("problem", sa.String()),
        sa.Column("switched_at", TIME),
        sa.PrimaryKeyConstraint("migration_id", "file_id", name="pk_migration_item"),
        sa.UniqueConstraint("twin_id", name="uq_migration_item_twin_id"),
        sa.ForeignKeyConstraint(
            ["migration_id"], ["migration.id"], name="fk_migration_item_migration_id", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_migration_item_migration_id_state_file_id", "migration_item", ["migration_id", "state", "file_id"]
    )


def downgrade() -> None:
    op.drop_table("migration_item")
    op.drop_table("migration")
