"""Sessions of resumable uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "upload",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid()),
        sa.Column("permission", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("length", sa.BigInteger()),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("all_received", sa.Boolean(), nullable=False),
        sa.Column("raw_metadata", sa.String(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("declared_sha1", sa.LargeBinary()),
        sa.Column("head", sa.LargeBinary()),
        sa.Column("file_id", sa.Uuid()),
        sa.Column("path", sa.String()),
        sa.Column("storage_state", sa.String()),
        sa.Column("sha1_state", sa.LargeBinary()),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Uuid()),
        sa.Column("is_contested", sa.Boolean(), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.Column("resumptions", sa.Integer(), nullable=False),
        sa.Column("result_asset_id", sa.Uuid()),
        sa.Column("result_created", sa.Boolean()),
        sa.Column("result_added", sa.JSON()),
        sa.Column("failure", sa.String()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("cleanup_at", moment),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_upload_owner_id", ondelete="CASCADE"),
    )
    op.create_index("ix_upload_owner_id_state", "upload", ["owner_id", "state"])
    for column in ("expires_at", "cleanup_at", "path"):
        op.create_index(f"ix_upload_{column}", "upload", [column])


def downgrade() -> None:
    op.drop_table("upload")
