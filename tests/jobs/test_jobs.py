"""Whether anybody works: told by what is done, not by who says to be there."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.health.checks import NotWell
from app.jobs import jobs
from app.jobs.jobs import Jobs
from tests.catalog.making import make_user, task_of, upload


class _Nobody:
    def wake(self, asset_id: object) -> None: ...

    async def deliver_all(self, tasks: object) -> None: ...


async def test_tasks_that_nobody_works_on_are_a_fault(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BETWEEN_LOOKS_SECONDS", 0.01)
    asset = await upload(catalog, (await make_user(catalog)).id)
    asked = Jobs(catalog, _Nobody())
    await asked.check()  # it has not waited long

    monkeypatch.setattr(jobs, "NEGLECTED", timedelta(0))
    with pytest.raises(NotWell, match="nobody works"):
        await asked.check()

    task = await task_of(catalog, asset)
    assert await catalog.tasks.claim(task.id, uuid4(), timedelta(minutes=1))
    await asked.check()
