"""Table `immich_session`: logins at Immich that are accepted here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLE = "immich_session"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        TABLE,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("device_type", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_immich_session"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_immich_session_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("token_hash", name="uq_immich_session_token_hash"),
    )
    op.create_index("ix_immich_session_user_id", TABLE, ["user_id"])
    op.create_index("ix_immich_session_expires_at", TABLE, ["expires_at"])


def downgrade() -> None:
    op.drop_table(TABLE)
