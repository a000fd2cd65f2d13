"""The months of a timeline are counted from an index alone: a million rows would take seconds."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from app.catalog.browsing.timeline import TimelineFilters, select_months
from app.catalog.schema import tables
from app.catalog.schema.records import Visibility


@pytest.mark.parametrize(
    "filters",
    [TimelineFilters(), TimelineFilters(visibility=Visibility.TIMELINE, is_favorite=True, trashed=True)],
    ids=["all", "filtered"],
)
def test_months_are_counted_from_the_index(filters: TimelineFilters) -> None:
    engine = create_engine("sqlite://")
    statement = select_months(uuid4(), filters).compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        tables.asset.create(connection)
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]

    steps = [step for step in plan if "asset" in step]
    assert len(steps) == 3, plan  # the first month, the next ones, and the count of each
    assert all("SEARCH asset USING COVERING INDEX ix_asset_owner_id_local_date_time_id" in step for step in steps), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
