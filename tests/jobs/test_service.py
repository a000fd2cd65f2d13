"""The readiness check of workers: it goes by the tasks that are worked on, not by workers that report themselves."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.health.readiness import CheckFailed
from app.jobs import service
from app.jobs.service import JobService
from tests.catalog.rows import make_user, task_of, upload


class _IgnoredDelivery:
    def wake(self, asset_id: object) -> None: ...

    async def deliver_all(self, tasks: object) -> None: ...


async def test_tasks_that_nobody_works_on_are_a_fault(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CHECK_PAUSE_SECONDS", 0.01)
    asset = await upload(catalog, (await make_user(catalog)).id)
    jobs = JobService(catalog, _IgnoredDelivery())
    await jobs.check_workers()  # the task is not neglected yet

    monkeypatch.setattr(service, "NEGLECTED_AFTER", timedelta(0))
    with pytest.raises(CheckFailed, match="nobody works"):
        await jobs.check_workers()

    task = await task_of(catalog, asset)
    assert await catalog.tasks.claim(task.id, uuid4(), timedelta(minutes=1))
    await jobs.check_workers()
