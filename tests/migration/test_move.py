"""Complete moves in both directions: run, switch, and cleanup or rollback."""

from __future__ import annotations

from app.catalog.schema.move_records import MoveState
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.plan_step import plan_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.status_step import report_move_status
from app.migration.steps.switch_step import switch_move
from tests.migration.library import Library

SIZES = (0, 1, 1000, 70_000, 300_000, 9_000_000, 5, 20_000, 1_000_000, 3, 12, 400)


async def test_a_library_is_moved(library: Library) -> None:
    await library.fill(SIZES)

    planned = await plan_move(library.work())
    assert (planned.files, planned.bytes, planned.problems.count) == (len(SIZES), sum(SIZES), 0)
    assert not library.at_target()

    copied = await run_move(library.work())
    assert copied.problems.listed == []
    assert (copied.files, copied.bytes) == (len(SIZES), sum(SIZES))
    await library.check(at=library.source_base)
    assert sorted(library.at_target().values()) == sorted(library.at_source().values()) == sorted(SIZES)

    switched = await switch_move(library.work())
    assert (switched.files, switched.problems.count) == (len(SIZES), 0)
    await library.check(at=library.target_base)
    assert sorted(library.at_source().values()) == sorted(SIZES)

    await library.age()
    cleaned = await clean_up_move(library.work())
    assert (cleaned.files, cleaned.bytes, cleaned.problems.count) == (len(SIZES), sum(SIZES), 0)
    assert f"freed {sum(SIZES)} bytes" in cleaned.notes
    assert not library.at_source()
    await library.check_exact(at=library.target_base)

    after = await report_move_status(library.work())
    assert after.migration is not None
    assert after.migration.finished_at is not None
    assert after.count_files(MoveState.REMOVED) == len(SIZES)


async def test_it_is_rolled_back(library: Library) -> None:
    await library.fill(SIZES)
    await run_move(library.work())
    await switch_move(library.work())

    back = await roll_back_move(library.work())

    assert (back.files, back.problems.count) == (len(SIZES), 0)
    await library.check(at=library.source_base)
    assert back.migration is not None
    await library.check_exact(at=library.source_base)
    assert not library.at_target()
