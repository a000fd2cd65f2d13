"""State `copying` of moves, which tells begun copies from planned ones. Items that older programs planned become
`copying`, as any of them may have been begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ITEM = sa.table("migration_item", sa.column("state", sa.String), sa.column("problem", sa.String))


def upgrade() -> None:
    ours = ITEM.c.problem.is_(None) | ~ITEM.c.problem.startswith("occupied:")
    op.execute(sa.update(ITEM).where(ITEM.c.state == "planned", ours).values(state="copying"))


def downgrade() -> None:
    op.execute(sa.update(ITEM).where(ITEM.c.state == "copying").values(state="planned"))
