"""`file.is_foreign`: files of another program, which are read where they lie; and table `foreign_root`, the folders that
they may lie in.

No program may mark a foreign file for deletion: a constraint refuses it, also to a process of an older version that still
runs. An older program does not start while there are foreign files, as their paths lie below no location that it knows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    default = "false" if op.get_bind().dialect.name == "postgresql" else "0"
    # Not `op.add_column`, which would copy the table to add the constraint on SQLite.
    op.execute(
        f"ALTER TABLE file ADD COLUMN is_foreign BOOLEAN DEFAULT {default} NOT NULL "
        "CONSTRAINT ck_file_foreign_is_live CHECK (NOT is_foreign OR state = 'live')"
    )
    op.create_table(
        "foreign_root",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_foreign_root"),
    )


def downgrade() -> None:
    op.drop_table("foreign_root")
    op.drop_column("file", "is_foreign")
