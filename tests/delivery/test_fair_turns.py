"""Turns of accounts: one with many downloads lets others in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.delivery.fair_turns import FREE_DOWNLOADS, TURNS_PER_PASS, FairTurns
from app.delivery.response import TakeTurn

DOWNLOADS = 200
CHUNKS = 20
WITHIN = 30.0


@contextmanager
def taking_part(turns: FairTurns, account: str) -> Iterator[TakeTurn]:
    try:
        yield turns.join(account)
    finally:
        turns.leave(account)


async def count_between(downloads: int) -> tuple[int, int]:
    """The most chunks of an account with so many downloads between two of another one, and all of its chunks."""
    turns, taken, most = FairTurns(), Counter[str](), 0

    async def download(account: str) -> None:
        with taking_part(turns, account) as take_turn:
            await asyncio.sleep(0)  # all have begun
            for _ in range(CHUNKS):
                await take_turn()
                taken[account] += 1

    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as tasks:
        for _ in range(downloads):
            tasks.create_task(download("busy"))
        await asyncio.sleep(0)
        with taking_part(turns, "other") as take_turn:
            for _ in range(CHUNKS):
                before = taken["busy"]
                await take_turn()
                most = max(most, taken["busy"] - before)
    return most, taken["busy"]


async def test_others_get_their_turn_after_a_few_of_a_busy_account() -> None:
    most, taken = await count_between(DOWNLOADS)
    assert taken == DOWNLOADS * CHUNKS
    assert most <= 2 * TURNS_PER_PASS


async def test_a_few_downloads_wait_for_no_turns() -> None:
    most, taken = await count_between(FREE_DOWNLOADS)
    assert taken == FREE_DOWNLOADS * CHUNKS
    assert most >= FREE_DOWNLOADS


async def test_turns_are_taken_in_order_and_those_of_cancelled_downloads_are_left_out() -> None:
    turns = FairTurns()
    order: list[int] = []
    numbers = range(2 * FREE_DOWNLOADS)
    cancelled = range(FREE_DOWNLOADS, FREE_DOWNLOADS + 5)

    all_done = asyncio.Event()

    async def take(number: int) -> None:
        with taking_part(turns, "one") as take_turn:
            await asyncio.sleep(0)
            await take_turn()
            order.append(number)
            if len(order) == len(numbers) - len(cancelled):
                all_done.set()
            await all_done.wait()

    downloads = [asyncio.create_task(take(number)) for number in numbers]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in cancelled:
        downloads[number].cancel()
    async with asyncio.timeout(WITHIN):
        await asyncio.gather(*downloads, return_exceptions=True)
    assert order == [number for number in numbers if number not in cancelled]
