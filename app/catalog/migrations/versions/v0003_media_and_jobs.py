"""Tables `derivative`, `task` and `person`, and profile images of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    profile = sa.ForeignKey("file.id", name="fk_user_profile_file_id")
    # Inline: only so does SQLite add the column in place. A table that is created again would cascade to the rows that
    # refer to it.
    op.add_column("user", sa.Column("profile_file_id", sa.Uuid(), profile, nullable=True), inline_references=True)
    op.add_column("user", sa.Column("profile_changed_at", TIME, nullable=True))
    op.create_index("uq_user_profile_file_id", "user", ["profile_file_id"], unique=True)
    op.create_table(
        "derivative",
        sa.Column("asset_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "kind", name="pk_derivative"),
        sa.UniqueConstraint("file_id", name="uq_derivative_file_id"),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name="fk_derivative_asset_id"),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name="fk_derivative_file_id"),
    )
    _tasks()
    _persons()


def downgrade() -> None:
    for name in ("person", "task", "derivative"):
        op.drop_table(name)
    op.drop_index("uq_user_profile_file_id", "user")
    op.drop_column("user", "profile_changed_at")
    op.drop_column("user", "profile_file_id")


def _tasks() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("asset_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
        sa.UniqueConstraint("asset_id", "kind", name="uq_task_asset_id_kind"),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name="fk_task_asset_id", ondelete="CASCADE"),
    )
    op.create_index("ix_task_kind_state_priority_not_before", "task", ["kind", "state", "priority", "not_before"])


def _persons() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("thumbnail_file_id", sa.Uuid(), nullable=True),
        sa.Column("thumbnail_asset_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
        sa.UniqueConstraint("thumbnail_file_id", name="uq_person_thumbnail_file_id"),
        sa.ForeignKeyConstraint(["owner_id"], ["user.id"], name="fk_person_owner_id"),
        sa.ForeignKeyConstraint(["thumbnail_file_id"], ["file.id"], name="fk_person_thumbnail_file_id"),
        sa.ForeignKeyConstraint(
            ["thumbnail_asset_id"], ["asset.id"], name="fk_person_thumbnail_asset_id", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_person_owner_id", "person", ["owner_id"])
    op.create_index("ix_person_thumbnail_asset_id", "person", ["thumbnail_asset_id"])
