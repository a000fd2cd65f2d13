"""Readiness checks: shared results, time-outs, and that one part's failure does not hide another's."""

import asyncio
import contextlib

import pytest

from app.health import checks
from app.health.checks import Health


async def test_polling_costs_one_check() -> None:
    runs = 0

    async def check() -> None:
        nonlocal runs
        runs += 1

    health = Health({"part": check}, shared_seconds=60)
    results = await asyncio.gather(*(health.results() for _ in range(50)))
    assert runs == 1
    assert all(result[0].failure is None for result in results)


async def test_a_part_that_hangs_is_a_failure_and_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_SECONDS", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def well() -> None:
        return

    hanging, other = await asyncio.wait_for(Health({"store": hang, "other": well}).results(), 5)
    assert isinstance(hanging.failure, TimeoutError)
    assert other.failure is None


async def test_a_part_that_recovers_is_well_again() -> None:
    broken = True

    async def check() -> None:
        if broken:
            raise ConnectionError("no route")

    health = Health({"store": check}, shared_seconds=0)
    assert isinstance((await health.results())[0].failure, ConnectionError)
    broken = False
    assert (await health.results())[0].failure is None


async def test_a_part_that_does_not_even_end_when_cancelled_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECK_SECONDS", 0.05)
    thawed = asyncio.Event()

    async def frozen() -> None:
        while not thawed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await thawed.wait()

    (result,) = await asyncio.wait_for(Health({"database": frozen}).results(), 5)
    assert isinstance(result.failure, TimeoutError)
    thawed.set()


async def test_a_detail_is_no_condition_and_every_state_has_its_beginning() -> None:
    broken = True

    async def library() -> None:
        if broken:
            raise ConnectionError("unmounted")

    async def well() -> None:
        return

    health = Health({"store": well}, {"libraries": library}, shared_seconds=0)
    store, libraries = await health.results()
    again = await health.results()
    broken = False
    mended = (await health.results())[1]

    assert (store.required, store.failure) == (True, None)
    assert (libraries.required, type(libraries.failure)) == (False, ConnectionError)
    assert [result.since for result in again] == [store.since, libraries.since]
    assert mended.failure is None
    assert mended.since > libraries.since
