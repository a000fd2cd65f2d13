"""`ConsistencyRepair` makes the requested repairs only, and deletes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, TaskState
from app.config import Settings
from app.jobs.service import JobService, open_jobs
from app.migration.consistency.finding_repair import QUARANTINED, RECOUNTED, REQUEUED, ConsistencyRepair
from app.migration.consistency.findings import FindingKind
from app.storage.key import Key
from tests.catalog.rows import LEASE
from tests.migration.verify.damaged_library import DamagedLibrary

MOMENT = datetime(2026, 11, 25, 12, 34, 56, tzinfo=UTC)
FOLDER = "quarantine/20261125-123456"


def repair(library: DamagedLibrary, jobs: JobService | None = None, *, orphans: bool = False) -> ConsistencyRepair:
    return ConsistencyRepair(library.catalog, library.storage, MOMENT, jobs=jobs, quarantine_orphans=orphans)


async def state_of_task(library: DamagedLibrary, derivative_path: str) -> TaskState | None:
    """The state of the derivative's task; None where it is done."""
    made = tables.derivative.join(tables.file, tables.file.c.id == tables.derivative.c.file_id)
    asset = select(tables.derivative.c.asset_id).select_from(made).where(tables.file.c.path == derivative_path)
    async with library.catalog.engine.connect() as connection:
        task = select(tables.task.c.state).where(tables.task.c.asset_id == asset.scalar_subquery())
        return (await connection.execute(task)).scalar_one_or_none()


async def finish_all_tasks(library: DamagedLibrary) -> None:
    async with library.catalog.engine.begin() as connection:
        await connection.execute(tables.task.update().values(state=TaskState.DONE, attempts=1))


async def test_lost_and_damaged_derivatives_are_made_again(library: DamagedLibrary) -> None:
    await library.fill(3)
    lost = await library.add_derivative(library.files[0])
    damaged = await library.add_derivative(library.files[1], FileKind.PREVIEW)
    well = await library.add_derivative(library.files[2])
    original = library.files[2]
    await finish_all_tasks(library)
    await library.spoil(lost.path, None)
    await library.spoil(damaged.path, b"other bytes")
    await library.spoil(original.path, None)
    orphan = await library.put("upload/orphan.jpg")

    async with open_jobs(Settings(_env_file=None), library.catalog, None) as jobs:  # pyright: ignore[reportCallIssue]
        summary, found = await library.verify(repairs=repair(library, jobs))

    assert {finding.path: finding.repair for finding in found} == {
        lost.path: REQUEUED,
        damaged.path: REQUEUED,
        original.path: None,
        orphan: None,
    }
    assert summary.unrepaired == 2
    assert [await state_of_task(library, file.path) for file in (lost, damaged, well)] == [
        TaskState.PENDING,
        TaskState.PENDING,
        TaskState.DONE,
    ]
    assert await library.bytes_of(orphan) == b"nobody's"


async def test_wrong_counts_are_corrected_where_repairs_are_asked_for(library: DamagedLibrary) -> None:
    await library.fill(2)
    async with library.catalog.engine.begin() as connection:
        await connection.execute(tables.asset_count.update().values(assets=7))

    unasked, found = await library.verify(repairs=repair(library))
    async with open_jobs(Settings(_env_file=None), library.catalog, None) as jobs:  # pyright: ignore[reportCallIssue]
        asked, _ = await library.verify(repairs=repair(library, jobs))

    assert [(finding.problem, finding.path, finding.repair) for finding in found] == [
        (FindingKind.COUNT, "asset", None)
    ]
    assert (unasked.unrepaired, asked.unrepaired, asked.repaired) == (1, 0, {RECOUNTED: 1})
    assert (await library.catalog.counts.get_statistics(library.owner)).total == 2
    assert await library.problems() == {}


async def test_nothing_is_mended_unasked(library: DamagedLibrary) -> None:
    await library.fill(2)
    lost = await library.add_derivative(library.files[0])
    await finish_all_tasks(library)
    await library.spoil(lost.path, None)
    orphan = await library.put("upload/orphan.jpg")

    summary, _ = await library.verify(repairs=repair(library))

    assert summary.unrepaired == 2
    assert await state_of_task(library, lost.path) is TaskState.DONE
    assert await library.bytes_of(orphan) == b"nobody's"


async def test_orphans_are_moved_out_of_the_way(library: DamagedLibrary) -> None:
    await library.fill(3)
    kept = await library.store(FileKind.ORIGINAL, "upload/being-written.jpg", b"half")
    orphan = await library.put("upload/a b/é #1.jpg", b"somebody's only copy")
    beside = await library.put("stray.txt", b"at the top")

    summary, found = await library.verify(repairs=repair(library, orphans=True))

    assert {finding.path: finding.repair for finding in found} == {orphan: QUARANTINED, beside: QUARANTINED}
    assert summary.unrepaired == 0
    assert not await library.storage.exists(orphan)
    moved = library.storage.managed_path(Key(f"{FOLDER}/upload/a b/é #1.jpg"))
    assert await library.bytes_of(moved) == b"somebody's only copy"
    assert await library.bytes_of(library.storage.managed_path(Key(f"{FOLDER}/stray.txt"))) == b"at the top"
    row = await library.catalog.files.get(kept.file_id)
    assert row is not None
    assert await library.bytes_of(row.path) == b"half"
    summary, found = await library.verify()
    assert found == []
    assert summary.known == {"quarantined": 2}


async def test_an_orphan_that_gets_a_row_in_the_last_moment_stays(
    library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan = await library.put("upload/taken over.jpg")
    rename = library.storage.rename

    async def begun_just_before(source: str, target: str) -> None:
        if source == orphan:
            await library.catalog.files.begin_write(library.owner, FileKind.ORIGINAL, orphan, "image/jpeg", LEASE)
        await rename(source, target)

    monkeypatch.setattr(library.storage, "rename", begun_just_before)
    summary, found = await library.verify(repairs=repair(library, orphans=True))

    assert [(finding.problem, finding.repair) for finding in found] == [(FindingKind.ORPHAN, None)]
    assert summary.unrepaired == 1
    assert await library.bytes_of(orphan) == b"nobody's"


async def test_an_orphan_that_cannot_be_moved_is_told(library: DamagedLibrary) -> None:
    await library.put(f"{FOLDER}/upload/twice.jpg", b"the first")
    orphan = await library.put("upload/twice.jpg", b"the second")

    summary, found = await library.verify(repairs=repair(library, orphans=True))

    assert [(finding.path, finding.repair) for finding in found] == [(orphan, None)]
    assert "cannot be repaired" in found[0].detail
    assert summary.unrepaired == 1
    assert await library.bytes_of(orphan) == b"the second"
