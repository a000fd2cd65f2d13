"""Tables `user`, `api_key`, `session`, `file`, `asset` and `installation`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _users()
    op.create_table(
        "file",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha1", sa.LargeBinary(), nullable=True),
        sa.Column("crc32", sa.BigInteger(), nullable=True),
        sa.Column("mime_type", sa.String(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_file"),
        sa.UniqueConstraint("path", name="uq_file_path"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_file_owner_id"),
    )
    op.create_index("ix_file_state_not_before", "file", ["state", "not_before"])
    _assets()
    op.create_table(
        "installation",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_installation"),
    )


def downgrade() -> None:
    for name in ("installation", "asset", "file", "session", "api_key", "user"):
        op.drop_table(name)


def _users() -> None:
    op.create_table(
        "user",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("quota", sa.BigInteger(), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("email", name="uq_user_email"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("key_hash", name="uq_api_key_key_hash"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_api_key_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_api_key_user_id", "api_key", ["user_id"])
    op.create_table(
        "session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.UniqueConstraint("token_hash", name="uq_session_token_hash"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_session_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_session_user_id", "session", ["user_id"])
    op.create_index("ix_session_expires_at", "session", ["expires_at"])


def _assets() -> None:
    op.create_table(
        "asset",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("sidecar_id", sa.Uuid(), nullable=True),
        sa.Column("checksum", sa.LargeBinary(), nullable=True),
        sa.Column("original_file_name", sa.String(), nullable=False),
        sa.Column("file_created_at", TIME, nullable=False),
        sa.Column("file_modified_at", TIME, nullable=False),
        sa.Column("local_date_time", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("is_favorite", sa.Boolean(), nullable=False),
        sa.Column("visibility", sa.String(), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("thumbhash", sa.LargeBinary(), nullable=True),
        sa.Column("exif", sa.JSON(), nullable=True),
        sa.Column("live_photo_video_id", sa.Uuid(), nullable=True),
        sa.Column("library_id", sa.Uuid(), nullable=True),
        sa.Column("is_offline", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.Column("device_asset_id", sa.String(), nullable=True),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_asset"),
        sa.UniqueConstraint("file_id", name="uq_asset_file_id"),
        sa.UniqueConstraint("sidecar_id", name="uq_asset_sidecar_id"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_asset_owner_id"),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name="fk_asset_file_id"),
        sa.ForeignKeyConstraint(["sidecar_id"], ["file.id"], name="fk_asset_sidecar_id"),
        sa.ForeignKeyConstraint(
            ["live_photo_video_id"], ["asset.id"], name="fk_asset_live_photo_video_id", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_asset_owner_id_file_created_at_id", "asset", ["owner_id", "file_created_at", "id"])
    op.create_index("ix_asset_deleted_at", "asset", ["deleted_at"])
    op.create_index("ix_asset_live_photo_video_id", "asset", ["live_photo_video_id"])
    op.create_index(
        "uq_asset_owner_id_checksum",
        "asset",
        ["owner_id", "checksum"],
        unique=True,
        sqlite_where=sa.text("library_id IS NULL"),
        postgresql_where=sa.text("library_id IS NULL"),
    )
