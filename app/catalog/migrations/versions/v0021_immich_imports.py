"""Tables `immich_source`, `immich_user` and `immich_key`: what was taken over from an installation of Immich, and how far.
`library.is_foreign`: libraries that Immich scans, and this service does not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "immich_source",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("media_roots", sa.JSON(), nullable=False),
        sa.Column("users", sa.JSON(), nullable=True),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("after_id", sa.Uuid(), nullable=True),
        sa.Column("begun_at", moment, nullable=False),
        sa.Column("followed_to", moment, nullable=True),
        sa.Column("compared_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_immich_source"),
    )
    op.create_table(
        "immich_user",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name="pk_immich_user"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_immich_user_user_id", ondelete="CASCADE"),
    )
    op.create_table(
        "immich_key",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_immich_key"),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name="fk_immich_key_key_id", ondelete="CASCADE"),
    )
    default = "false" if op.get_bind().dialect.name == "postgresql" else "0"
    op.add_column("library", sa.Column("is_foreign", sa.Boolean(), server_default=sa.text(default), nullable=False))


def downgrade() -> None:
    op.drop_column("library", "is_foreign")
    for table in ("immich_key", "immich_user", "immich_source"):
        op.drop_table(table)
