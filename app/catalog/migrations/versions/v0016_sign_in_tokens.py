"""Table `sign_in_token`, and `session.api_key_id`: the key whose permissions a session has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "sign_in_token",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_sign_in_token"),
        sa.UniqueConstraint("token_hash", name="uq_sign_in_token_token_hash"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_sign_in_token_user_id", ondelete="CASCADE"),
    )
    # SQLite copies the table, which is safe here: no table refers to it.
    with op.batch_alter_table("session") as batch:
        batch.add_column(sa.Column("api_key_id", sa.Uuid(), nullable=True))
        batch.create_foreign_key("fk_session_api_key_id", "api_key", ["api_key_id"], ["id"], ondelete="CASCADE")
        batch.create_index("ix_session_api_key_id", ["api_key_id"])


def downgrade() -> None:
    # Without the column these sessions would have all permissions.
    op.execute("DELETE FROM session WHERE api_key_id IS NOT NULL")
    with op.batch_alter_table("session") as batch:
        batch.drop_index("ix_session_api_key_id")
        batch.drop_constraint("fk_session_api_key_id", type_="foreignkey")
        batch.drop_column("api_key_id")
    op.drop_table("sign_in_token")
