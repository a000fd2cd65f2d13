"""`TTLCache`: expiry, eviction, shared loads, and invalidation during a load."""

import asyncio

import pytest

from app.api.ttl_cache import TTLCache
from app.catalog.errors import CatalogUnreachable


class Source:
    """A loader that counts its calls."""

    def __init__(self, value: str | None = "value") -> None:
        self.value = value
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        return self.value


async def test_a_second_request_asks_nothing() -> None:
    cache, source = TTLCache[str, str](10), Source()
    assert [await cache.get("a", source) for _ in range(3)] == ["value"] * 3
    assert source.asked == 1


async def test_what_is_not_there_is_asked_again() -> None:
    cache, source = TTLCache[str, str](10), Source(None)
    assert await cache.get("a", source) is None
    source.value = "made meanwhile"
    assert await cache.get("a", source) == "made meanwhile"


async def test_forgetting_takes_effect_at_once() -> None:
    cache, source = TTLCache[str, str](10), Source()
    await cache.get("a", source)
    source.value = "changed"
    cache.invalidate("a")
    assert await cache.get("a", source) == "changed"


async def test_a_value_grows_old() -> None:
    cache, source = TTLCache[str, str](10, ttl_seconds=0.0), Source()
    await cache.get("a", source)
    await cache.get("a", source)
    assert source.asked == 2


async def test_a_fill_older_than_an_invalidation_is_dropped() -> None:
    cache = TTLCache[str, str](10)
    reading, deleted = asyncio.Event(), asyncio.Event()

    async def read_before_the_delete() -> str:
        reading.set()
        await deleted.wait()
        return "deleted"

    fill = asyncio.create_task(cache.get("a", read_before_the_delete))
    await asyncio.wait_for(reading.wait(), 5)
    cache.invalidate("a")
    deleted.set()
    assert await asyncio.wait_for(fill, 5) == "deleted"
    assert cache.peek("a") is None


async def test_it_is_bounded_and_lets_the_oldest_go() -> None:
    cache = TTLCache[int, str](3)
    for number in range(5):
        await cache.get(number, Source())
    assert [cache.peek(number) is not None for number in range(5)] == [False, False, True, True, True]


async def test_who_asks_meanwhile_shares_one_loading_and_outlives_who_began_it() -> None:
    cache = TTLCache[str, str](10)
    answered = asyncio.Event()
    asked = 0

    async def load() -> str:
        nonlocal asked
        asked += 1
        await answered.wait()
        return "value"

    first, *others = [asyncio.create_task(cache.get("a", load)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first], timeout=5)
    answered.set()
    assert await asyncio.wait_for(asyncio.gather(*others), 5) == ["value"] * 4
    assert asked == 1


async def test_who_asks_after_something_was_forgotten_joins_no_older_loading() -> None:
    cache = TTLCache[str, str](10)
    reading, deleted = asyncio.Event(), asyncio.Event()

    async def read_before_the_delete() -> str:
        reading.set()
        await deleted.wait()
        return "deleted"

    older = asyncio.create_task(cache.get("a", read_before_the_delete))
    await asyncio.wait_for(reading.wait(), 5)
    cache.invalidate("a")
    assert await asyncio.wait_for(cache.get("a", Source("kept")), 5) == "kept"
    deleted.set()
    assert await asyncio.wait_for(older, 5) == "deleted"
    assert cache.peek("a") == "kept"


class UnreachableSource(Source):
    async def __call__(self) -> str | None:
        raise CatalogUnreachable("no answer")


async def test_an_expired_value_outlasts_an_outage_for_a_while() -> None:
    lasting = TTLCache[str, str](10, ttl_seconds=0.0, stale_seconds=60.0)
    await lasting.get("a", Source())
    assert await lasting.get("a", UnreachableSource()) == "value"
    assert await lasting.get("a", Source("new")) == "new", "it is asked first"
    lasting.invalidate("a")
    with pytest.raises(CatalogUnreachable):
        await lasting.get("a", UnreachableSource())
    strict = TTLCache[str, str](10, ttl_seconds=0.0)
    await strict.get("a", Source())
    with pytest.raises(CatalogUnreachable):
        await strict.get("a", UnreachableSource())
