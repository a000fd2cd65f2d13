"""Stores that fail during a move: the report is correct, nothing is lost, and the next run completes the move."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from app.catalog.schema.move_records import MoveState
from app.config import StorageEngine
from app.migration.reports import MoveReport
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.migration.conftest import MakeLibrary, MoveDirection
from tests.migration.library import Library
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS

SIZES = (0, 1000, 70_000, 9_000_000, 300_000, 20_000)


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[Proxy]:
    with Proxy(seaweedfs.port) as running:
        yield running


def of_files(request: Recorded) -> bool:
    """Matches requests for files, not listings, markers or probes."""
    return (
        request.method in ("GET", "PUT", "HEAD", "POST")
        and "/upload/" in request.path
        and ".immich" not in request.path
    )


def every(number: int, matches: Callable[[Recorded], bool] = of_files) -> Callable[[Recorded], bool]:
    counter = itertools.count(1)
    return lambda request: matches(request) and next(counter) % number == 0


def of_bytes(request: Recorded) -> bool:
    return of_files(request) and request.method in ("GET", "PUT")


@dataclass(frozen=True, slots=True)
class StoreFault:
    """A fault of the store, for moves in both directions."""

    name: str
    faults: Callable[[], list[Fault]]


STORE_FAULTS = [
    StoreFault("503 to every second request", lambda: [Fault(every(2), status=503, code="SlowDown")]),
    StoreFault("503 to all of one kind", lambda: [Fault(of_bytes, status=503, code="ServiceUnavailable")]),
    StoreFault("resets in place of answers", lambda: [Fault(every(2, of_bytes), lose_answer=True)]),
    StoreFault("truncated bodies", lambda: [Fault(of_bytes, cut_after=100, times=12)]),
]


@pytest.mark.parametrize("store_fault", STORE_FAULTS, ids=lambda store_fault: store_fault.name)
async def test_the_report_is_true_and_a_second_run_completes(
    make_library: MakeLibrary, proxy: Proxy, store_fault: StoreFault
) -> None:
    library = await make_library(endpoint=proxy.endpoint)
    await library.fill(SIZES)
    proxy.faults += store_fault.faults()

    first = await run_move(library.work())

    proxy.faults.clear()
    assert first.files + first.problems.count == len(SIZES)
    assert all(named.problem for named in first.problems.listed)
    await assert_true(library, first)
    second = await run_move(library.work())
    assert second.problems.count == 0
    assert first.files + second.files == len(SIZES)
    await finish(library)


async def test_a_put_that_is_acknowledged_and_not_kept_is_found(
    make_library: MakeLibrary, seaweedfs: SeaweedFS, proxy: Proxy, way: MoveDirection
) -> None:
    """For moves to S3 only; in the other direction it looks the same as a lost source."""
    library = await make_library(endpoint=proxy.endpoint)
    kept, lost, _ = await library.fill([1000, 70_000, 5])
    if way.to is StorageEngine.S3:
        name = lost.path.removeprefix(library.source_base)
        proxy.faults.append(
            Fault(lambda request: request.method == "PUT" and request.path.endswith(name), swallow=True)
        )
    else:
        await library.storage.unlink(lost.path)

    first = await run_move(library.work())

    word = "copy missing" if way.to is StorageEngine.S3 else "missing"
    assert [named.problem.partition(":")[0] for named in first.problems.listed] == [word]
    assert first.files == 2
    if way.to is StorageEngine.S3:
        proxy.faults.clear()
        assert (await run_move(library.work())).problems.count == 0
        await finish(library)
    else:
        assert (await switch_move(library.work())).files == 2
        assert (await library.file(lost)).path == lost.path
        assert (await library.file(kept)).path.startswith(library.target_base)


async def test_a_store_that_is_gone_ends_the_run_and_undoing_needs_no_target(
    make_library: MakeLibrary, proxy: Proxy, way: MoveDirection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.migration.steps.run_step.MAX_CONSECUTIVE_FAILURES", 2)
    library = await make_library(endpoint=proxy.endpoint)
    await library.fill([100] * 6)
    await run_move(library.work())
    await library.fill([100] * 6, seed=2)
    await switch_move(library.work())
    proxy.faults.append(Fault(of_files, status=503))

    stopped = await run_move(library.work(concurrency=1))

    assert any(note.startswith("stopped after 2 failures in a row") for note in stopped.notes)
    assert stopped.files == 0
    assert stopped.count_files(MoveState.PLANNED) >= 4, "what it did not come to is not begun"
    if way.to is StorageEngine.LOCAL:
        proxy.faults.clear()  # rollback needs only the source
    undone = await roll_back_move(library.work())
    assert undone.problems.count == 0
    proxy.faults.clear()
    await library.check_exact(at=library.source_base)


async def assert_true(library: Library, report: MoveReport) -> None:
    """Assert that files reported as verified are, and that all files are still served."""
    verified = await library.catalog.moves.get_moves(_id(report), [MoveState.VERIFIED], limit=100)
    sizes = library.stack.objects()
    assert len(verified) == report.files
    assert all(sizes[move.item.target_path] == move.item.size for move in verified)
    await library.check(at=library.source_base)


def _id(report: MoveReport):
    assert report.migration is not None
    return report.migration.id


async def finish(library: Library) -> None:
    await switch_move(library.work())
    await library.age()
    assert (await clean_up_move(library.work())).problems.count == 0
    await library.check_exact(at=library.target_base)
