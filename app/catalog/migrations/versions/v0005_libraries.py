"""Tables `library`, `library_folder` and `library_file`: external libraries, and the identity of each of their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
BYTEWISE = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "library",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("import_paths", sa.JSON(), nullable=False),
        sa.Column("exclusion_patterns", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_since", TIME, nullable=False),
        sa.Column("state_error", sa.String(), nullable=True),
        sa.Column("scanned_at", TIME, nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("mounts", sa.JSON(), nullable=False),
        sa.Column("watch", sa.String(), nullable=True),
        sa.Column("last_scan", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_library"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_library_owner_id"),
    )
    op.create_index("ix_library_owner_id", "library", ["owner_id"])
    op.create_table(
        "library_folder",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("library_id", sa.Uuid(), nullable=False),
        sa.Column("path", BYTEWISE, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_library_folder"),
        sa.UniqueConstraint("library_id", "path", name="uq_library_folder_library_id_path"),
        sa.ForeignKeyConstraint(
            ["library_id"], ["library.id"], name="fk_library_folder_library_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "library_file",
        sa.Column("asset_id", sa.Uuid(), nullable=False),
        sa.Column("folder_id", sa.Uuid(), nullable=False),
        sa.Column("name", BYTEWISE, nullable=False),
        sa.Column("device", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("missing_since", TIME, nullable=True),
        sa.Column("trashed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", name="pk_library_file"),
        sa.UniqueConstraint("folder_id", "name", name="uq_library_file_folder_id_name"),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name="fk_library_file_asset_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["folder_id"], ["library_folder.id"], name="fk_library_file_folder_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_library_file_inode", "library_file", ["inode"])
    op.create_index("ix_library_file_missing_since", "library_file", ["missing_since"])
    op.create_index("ix_asset_library_id", "asset", ["library_id"])


def downgrade() -> None:
    op.drop_index("ix_asset_library_id", "asset")
    for name in ("library_file", "library_folder", "library"):
        op.drop_table(name)
