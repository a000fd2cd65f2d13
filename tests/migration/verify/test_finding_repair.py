"""`ConsistencyRepair` makes the requested repairs only, and deletes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, TaskState
from app.config import Settings
from app.jobs.service import JobService, open_jobs
from app.migration.consistency.consistency_check import FindingKind
from app.migration.consistency.finding_repair import QUARANTINED, REQUEUED, ConsistencyRepair
from app.storage.key import Key
from tests.catalog.rows import LEASE
from tests.migration.verify.damaged_library import DamagedLibrary

MOMENT = datetime(2026, 11, 25, 12, 34, 56, tzinfo=UTC)
FOLDER = "quarantine/20261125-123456"


def repair(shelf: DamagedLibrary, jobs: JobService | None = None, *, orphans: bool = False) -> ConsistencyRepair:
    return ConsistencyRepair(shelf.catalog, shelf.storage, MOMENT, jobs=jobs, quarantine_orphans=orphans)


async def state_of_task(shelf: DamagedLibrary, derivative_path: str) -> TaskState | None:
    """The state of the derivative's task; None where it is done."""
    made = tables.derivative.join(tables.file, tables.file.c.id == tables.derivative.c.file_id)
    asset = select(tables.derivative.c.asset_id).select_from(made).where(tables.file.c.path == derivative_path)
    async with shelf.catalog.engine.connect() as connection:
        task = select(tables.task.c.state).where(tables.task.c.asset_id == asset.scalar_subquery())
        return (await connection.execute(task)).scalar_one_or_none()


async def finish_all_tasks(shelf: DamagedLibrary) -> None:
    async with shelf.catalog.engine.begin() as connection:
        await connection.execute(tables.task.update().values(state=TaskState.DONE, attempts=1))


async def test_lost_and_damaged_derivatives_are_made_again(shelf: DamagedLibrary) -> None:
    await shelf.fill(3)
    lost = await shelf.add_derivative(shelf.files[0])
    damaged = await shelf.add_derivative(shelf.files[1], FileKind.PREVIEW)
    well = await shelf.add_derivative(shelf.files[2])
    original = shelf.files[2]
    await finish_all_tasks(shelf)
    await shelf.spoil(lost.path, None)
    await shelf.spoil(damaged.path, b"other bytes")
    await shelf.spoil(original.path, None)
    orphan = await shelf.put("upload/orphan.jpg")

    async with open_jobs(Settings(_env_file=None), shelf.catalog, None) as jobs:  # pyright: ignore[reportCallIssue]
        summary, found = await shelf.verify(repairs=repair(shelf, jobs))

    assert {finding.path: finding.repair for finding in found} == {
        lost.path: REQUEUED,
        damaged.path: REQUEUED,
        original.path: None,
        orphan: None,
    }
    assert summary.unrepaired == 2
    assert [await state_of_task(shelf, file.path) for file in (lost, damaged, well)] == [
        TaskState.PENDING,
        TaskState.PENDING,
        TaskState.DONE,
    ]
    assert await shelf.bytes_of(orphan) == b"nobody's"


async def test_nothing_is_mended_unasked(shelf: DamagedLibrary) -> None:
    await shelf.fill(2)
    lost = await shelf.add_derivative(shelf.files[0])
    await finish_all_tasks(shelf)
    await shelf.spoil(lost.path, None)
    orphan = await shelf.put("upload/orphan.jpg")

    summary, _ = await shelf.verify(repairs=repair(shelf))

    assert summary.unrepaired == 2
    assert await state_of_task(shelf, lost.path) is TaskState.DONE
    assert await shelf.bytes_of(orphan) == b"nobody's"


async def test_orphans_are_moved_out_of_the_way(shelf: DamagedLibrary) -> None:
    await shelf.fill(3)
    kept = await shelf.store(FileKind.ORIGINAL, "upload/being-written.jpg", b"half")
    orphan = await shelf.put("upload/a b/é #1.jpg", b"somebody's only copy")
    beside = await shelf.put("stray.txt", b"at the top")

    summary, found = await shelf.verify(repairs=repair(shelf, orphans=True))

    assert {finding.path: finding.repair for finding in found} == {orphan: QUARANTINED, beside: QUARANTINED}
    assert summary.unrepaired == 0
    assert not await shelf.storage.exists(orphan)
    moved = shelf.storage.managed_path(Key(f"{FOLDER}/upload/a b/é #1.jpg"))
    assert await shelf.bytes_of(moved) == b"somebody's only copy"
    assert await shelf.bytes_of(shelf.storage.managed_path(Key(f"{FOLDER}/stray.txt"))) == b"at the top"
    row = await shelf.catalog.files.get(kept.file_id)
    assert row is not None
    assert await shelf.bytes_of(row.path) == b"half"
    summary, found = await shelf.verify()
    assert found == []
    assert summary.known == {"quarantined": 2}


async def test_an_orphan_that_gets_a_row_in_the_last_moment_stays(
    shelf: DamagedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = await shelf.put("upload/taken over.jpg")
    rename = shelf.storage.rename

    async def begun_just_before(source: str, target: str) -> None:
        if source == orphan:
            await shelf.catalog.files.begin_write(shelf.owner, FileKind.ORIGINAL, orphan, "image/jpeg", LEASE)
        await rename(source, target)

    monkeypatch.setattr(shelf.storage, "rename", begun_just_before)
    summary, found = await shelf.verify(repairs=repair(shelf, orphans=True))

    assert [(finding.problem, finding.repair) for finding in found] == [(FindingKind.ORPHAN, None)]
    assert summary.unrepaired == 1
    assert await shelf.bytes_of(orphan) == b"nobody's"


async def test_an_orphan_that_cannot_be_moved_is_told(shelf: DamagedLibrary) -> None:
    await shelf.put(f"{FOLDER}/upload/twice.jpg", b"the first")
    orphan = await shelf.put("upload/twice.jpg", b"the second")

    summary, found = await shelf.verify(repairs=repair(shelf, orphans=True))

    assert [(finding.path, finding.repair) for finding in found] == [(orphan, None)]
    assert "cannot be repaired" in found[0].detail
    assert summary.unrepaired == 1
    assert await shelf.bytes_of(orphan) == b"the second"
