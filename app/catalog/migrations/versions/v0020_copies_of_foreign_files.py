"""`file.copy_path`: where the verified copy of a foreign file lies, whose source is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

INDEX = "uq_file_copy_path"


def upgrade() -> None:
    op.add_column("file", sa.Column("copy_path", sa.String(), nullable=True))
    where = sa.text("copy_path IS NOT NULL")
    op.create_index(INDEX, "file", ["copy_path"], unique=True, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index(INDEX, "file")
    op.drop_column("file", "copy_path")
