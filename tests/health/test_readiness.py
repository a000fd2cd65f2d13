"""Readiness checks: cached results, time-outs, and that a part that fails or hangs hides no other one."""

import asyncio
import contextlib

import pytest

from app.health import readiness
from app.health.readiness import ReadinessChecks


async def test_polling_costs_one_check() -> None:
    runs = 0

    async def check() -> None:
        nonlocal runs
        runs += 1

    health = ReadinessChecks({"part": check}, cache_seconds=60)
    results = await asyncio.gather(*(health.read_results() for _ in range(50)))
    assert runs == 1
    assert all(result[0].failure is None for result in results)


async def test_a_part_that_hangs_is_a_failure_and_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def well() -> None:
        return

    hanging, other = await asyncio.wait_for(ReadinessChecks({"store": hang, "other": well}).read_results(), 5)
    assert isinstance(hanging.failure, TimeoutError)
    assert other.failure is None


async def test_a_part_that_recovers_is_well_again() -> None:
    broken = True

    async def check() -> None:
        if broken:
            raise ConnectionError("no route")

    health = ReadinessChecks({"store": check}, cache_seconds=0)
    assert isinstance((await health.read_results())[0].failure, ConnectionError)
    broken = False
    assert (await health.read_results())[0].failure is None


async def test_a_part_that_does_not_even_end_when_cancelled_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.05)
    thawed = asyncio.Event()

    async def frozen() -> None:
        while not thawed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await thawed.wait()

    (result,) = await asyncio.wait_for(ReadinessChecks({"database": frozen}).read_results(), 5)
    assert isinstance(result.failure, TimeoutError)
    thawed.set()


async def test_a_detail_is_no_condition_and_every_state_has_its_beginning() -> None:
    broken = True

    async def library() -> None:
        if broken:
            raise ConnectionError("unmounted")

    async def well() -> None:
        return

    health = ReadinessChecks({"store": well}, {"libraries": library}, cache_seconds=0)
    store, libraries = await health.read_results()
    again = await health.read_results()
    broken = False
    mended = (await health.read_results())[1]

    assert (store.is_required, store.failure) == (True, None)
    assert (libraries.is_required, type(libraries.failure)) == (False, ConnectionError)
    assert [result.since for result in again] == [store.since, libraries.since]
    assert mended.failure is None
    assert mended.since > libraries.since
