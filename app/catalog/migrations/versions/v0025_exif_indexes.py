"""SQLite: indexes for searches by EXIF values. On PostgreSQL `app.catalog.assets.exif_indexes` makes them, which needs no revision."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

INDEXES = {
    "make": "ix_asset_exif_make",
    "model": "ix_asset_exif_model",
    "lensModel": "ix_asset_exif_lens_model",
    "city": "ix_asset_exif_city",
    "state": "ix_asset_exif_state",
    "country": "ix_asset_exif_country",
    "rating": "ix_asset_exif_rating",
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for field, index in INDEXES.items():
        value = f"substr(json_extract(exif, '$.{field}'), 1, 100)"
        op.execute(f"CREATE INDEX {index} ON asset (owner_id, {value}, file_created_at)")


def downgrade() -> None:
    for index in INDEXES.values():
        op.execute(f"DROP INDEX IF EXISTS {index}")
