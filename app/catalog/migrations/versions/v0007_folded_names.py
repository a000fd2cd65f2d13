"""Assets: their names as searches compare them, in any case and normalization."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.folding import folded

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ASSET = sa.table(
    "asset",
    sa.column("id", sa.Uuid),
    sa.column("original_file_name", sa.String),
    sa.column("folded_name", sa.String),
)
ROWS = 1000


def upgrade() -> None:
    op.add_column("asset", sa.Column("folded_name", sa.String(), nullable=True))
    connection = op.get_bind()
    fill = (
        sa.update(ASSET)
        .where(ASSET.c.id == sa.bindparam("of_asset"))
        .values(folded_name=sa.bindparam("new_folded_name"))
    )
    page = sa.select(ASSET.c.id, ASSET.c.original_file_name).order_by(ASSET.c.id).limit(ROWS)
    rows = connection.execute(page).all()
    while rows:
        names = [{"of_asset": id_, "new_folded_name": folded(name)} for id_, name in rows]
        connection.execute(fill, names)
        rows = connection.execute(page.where(ASSET.c.id > rows[-1][0])).all()


def downgrade() -> None:
    op.drop_column("asset", "folded_name")
