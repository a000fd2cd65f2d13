"""`ArchiveLinkService` and `ArchivePlanner` over a real catalogue: expiry, revocation, other processes, token hashes, planned names."""

from __future__ import annotations

import asyncio
import gc
import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from app.archives import links as links_module
from app.archives.errors import ManifestUnreadable, NotArchivable
from app.archives.links import ArchiveLinkService
from app.archives.planner import ArchivePlanner
from app.catalog.catalog import Catalog
from app.catalog.downloads.download_parts import compute_part_digest
from app.catalog.errors import CatalogUnavailable, NotFound
from app.catalog.schema import tables
from app.config import Settings
from app.jobs.sweeper import Sweeper
from tests.archives.member_store import MemberStore
from tests.catalog.rows import make_user, upload

DAY = timedelta(days=1)


def replica(catalog: Catalog) -> ArchiveLinkService:
    """A service with an empty cache, as another process has it."""
    return ArchiveLinkService(catalog, ArchivePlanner(catalog, cast("Any", MemberStore())))


async def photos(catalog: Catalog, count: int = 3) -> tuple[UUID, list[UUID]]:
    user = await make_user(catalog)
    return user.id, [(await upload(catalog, user.id)).id for _ in range(count)]


async def test_another_process_opens_the_same_archive(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)

    token, made = await replica(catalog).create(owner, ids, "some.zip", DAY)
    opened = await replica(catalog).open(token)

    assert opened is not None
    assert opened.expires_at == made.expires_at
    for field in ("size", "etag", "last_modified", "filename", "accepts_ranges"):
        assert getattr(opened.source, field) == getattr(made.source, field)
    assert list(opened.source.layout.iter_pieces()) == list(made.source.layout.iter_pieces())


async def test_no_other_token_opens_it(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    links = replica(catalog)
    token, _ = await links.create(owner, ids, "some.zip", DAY)

    for wrong in ("", token[:-1], token + "A", token.swapcase(), token + "=", "é\udc80", "A" * 5000):
        assert await links.open(wrong) is None, wrong


async def test_the_token_is_not_stored(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)

    async with catalog.engine.connect() as connection:
        rows = (await connection.execute(sa.select(tables.archive))).all()

    assert len(rows) == 1
    assert token not in repr(rows)
    assert token.encode() not in b"".join(value for value in rows[0] if isinstance(value, bytes))


async def test_an_expired_link_opens_nothing_even_where_it_is_in_memory(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, ids = await photos(catalog)
    links = replica(catalog)
    token, _ = await links.create(owner, ids, "some.zip", timedelta(hours=1))
    assert await links.open(token) is not None

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=1, seconds=1)

    monkeypatch.setattr(links_module, "datetime", Later)

    assert await links.open(token) is None
    assert await replica(catalog).open(token) is None


async def test_a_revoked_link_is_open_in_no_process_for_long(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, ids = await photos(catalog)
    here, there = replica(catalog), replica(catalog)
    token, link = await here.create(owner, ids, "some.zip", DAY)
    kept, _ = await here.create(owner, ids, "kept.zip", DAY)
    for links in (here, there):
        assert await links.open(token) is not None

    await catalog.archive_links.delete(owner, [link.id])
    here.drop_revoked([link.id])

    assert await here.open(token) is None
    assert await there.open(token) is not None  # asked just now
    monkeypatch.setattr(links_module, "RECHECK_SECONDS", 0.0)
    assert await there.open(token) is None
    assert await here.open(kept) is not None
    assert await there.open(kept) is not None


async def test_a_link_ends_with_its_key_or_session(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "RECHECK_SECONDS", 0.0)
    owner, ids = await photos(catalog)
    links = replica(catalog)
    key = await catalog.api_keys.create(owner, "phone", ["all"], b"key")
    session = await catalog.sessions.create(owner, b"token", datetime.now(UTC) + DAY)
    by_key, _ = await links.create(owner, ids, "key.zip", DAY, key.id)
    by_session, _ = await links.create(owner, ids, "session.zip", DAY, session.id)
    alone, _ = await links.create(owner, ids, "alone.zip", DAY)

    async def opened() -> list[bool]:
        return [
            await each.open(token) is not None
            for token in (by_key, by_session, alone)
            for each in (links, replica(catalog))
        ]

    assert await opened() == [True] * 6
    await catalog.api_keys.delete(owner, key.id)
    assert await opened() == [False] * 2 + [True] * 4
    await catalog.sessions.delete_by_hash(b"token")
    assert await opened() == [False] * 4 + [True] * 2
    assert [link.name for link in await catalog.archive_links.list(owner, datetime.now(UTC))] == ["alone.zip"]
    assert await catalog.archive_links.delete_expired(datetime.now(UTC)) == 2


async def test_a_catalogue_that_does_not_answer_ends_no_link(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "RECHECK_SECONDS", 0.0)
    owner, ids = await photos(catalog)
    links = replica(catalog)
    token, _ = await links.create(owner, ids, "some.zip", DAY)
    is_open = catalog.archive_links.is_open

    async def unavailable(*_: object) -> bool:
        raise CatalogUnavailable("away")

    monkeypatch.setattr(catalog.archive_links, "is_open", unavailable)
    with pytest.raises(CatalogUnavailable):
        await links.open(token)
    monkeypatch.setattr(catalog.archive_links, "is_open", is_open)
    assert await links.open(token) is not None


async def test_the_sweeper_removes_expired_links_only(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    links = replica(catalog)
    await links.create(owner, ids, "short.zip", timedelta(hours=1))
    kept, _ = await links.create(owner, ids, "long.zip", DAY)

    class NoLeftovers:
        async def sweep_leftovers(self, older_than: timedelta, find_paths_in_use: object) -> int:
            return 0

    sweeper = Sweeper(catalog, cast("Any", NoLeftovers()), Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    await sweeper._run_housekeeping(datetime.now(UTC) + timedelta(hours=2))

    async with catalog.engine.connect() as connection:
        assert (await connection.execute(sa.select(tables.archive.c.name))).scalars().all() == ["long.zip"]
    assert await replica(catalog).open(kept) is not None


async def test_what_is_not_theirs_is_named_and_nothing_is_made(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    _, (foreign, *_) = await photos(catalog)
    for wrong in (foreign, uuid4()):
        with pytest.raises(NotFound, match=str(wrong)):
            await replica(catalog).create(owner, [*ids, wrong], "some.zip", DAY)

    async with catalog.engine.connect() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(tables.archive))).scalar() == 0


async def test_many_unknown_ids_do_not_make_a_huge_answer(catalog: Catalog) -> None:
    owner, _ = await photos(catalog, 0)

    with pytest.raises(NotFound) as refused:
        await replica(catalog).create(owner, [uuid4() for _ in range(5000)], "some.zip", DAY)

    assert len(str(refused.value)) < 2000
    assert "and 4980 more" in str(refused.value)


async def test_the_trash_is_named(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    await catalog.assets.trash(owner, [ids[1]])

    with pytest.raises(NotArchivable, match=str(ids[1])):
        await replica(catalog).create(owner, ids, "some.zip", DAY)


async def test_an_asset_asked_for_twice_is_in_it_once(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)

    _, link = await replica(catalog).create(owner, [*ids, *reversed(ids)], "some.zip", DAY)

    assert [entry.asset_id for entry in link.source.manifest.entries] == ids


async def test_names_planned_for_a_part_do_not_stay_for_longer_than_a_day(catalog: Catalog) -> None:
    """Afterwards an asset that had been a part alone has its own name again."""
    user = await make_user(catalog)
    ids = [(await upload(catalog, user.id, original_file_name="img.jpg")).id for _ in range(2)]
    planner = ArchivePlanner(catalog, cast("Any", MemberStore()))

    _, second = await planner.plan_archives(user.id, ids, 1)

    digest, now = compute_part_digest(second.asset_ids), datetime.now(UTC)
    assert await catalog.download_parts.get_names(user.id, digest, now + DAY * 0.9) == {ids[1]: "img+1.jpg"}
    assert await catalog.download_parts.get_names(user.id, digest, now + DAY) == {}


async def test_a_damaged_manifest_is_told(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)
    async with catalog.engine.begin() as connection:
        await connection.execute(sa.update(tables.archive).values(manifest=b"damaged"))

    with pytest.raises(ManifestUnreadable):
        await replica(catalog).open(token)


async def test_eight_connections_lay_it_out_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)
    links = replica(catalog)

    opened = await asyncio.gather(*(links.open(token) for _ in range(8)))

    assert len({id(link) for link in opened}) == 1
    assert opened[0] is not None


async def test_who_gives_up_waiting_does_not_spoil_it_for_others(catalog: Catalog) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)
    links = replica(catalog)
    first, second = asyncio.create_task(links.open(token)), asyncio.create_task(links.open(token))
    await asyncio.sleep(0)
    first.cancel()

    assert await second is not None


async def test_closing_ends_what_is_being_opened_for_nobody(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)
    links = replica(catalog)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(catalog.archive_links, "get_by_hash", hang)
    asking = asyncio.create_task(links.open(token))
    await asyncio.sleep(0)
    asking.cancel()
    async with asyncio.timeout(10):
        await links.aclose()
    await asyncio.sleep(0)

    assert links._loading == {}


async def test_a_failure_that_nobody_waits_for_is_no_failure_of_the_program(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, ids = await photos(catalog)
    token, _ = await replica(catalog).create(owner, ids, "some.zip", DAY)
    links = replica(catalog)
    complaints: list[dict[str, object]] = []
    fail = asyncio.Event()

    async def lost(*_: object) -> None:
        await fail.wait()
        raise CatalogUnavailable("gone")

    monkeypatch.setattr(catalog.archive_links, "get_by_hash", lost)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        asking = asyncio.create_task(links.open(token))
        await asyncio.sleep(0)
        (opening,) = links._loading.values()
        asking.cancel()
        fail.set()
        await asyncio.wait([asking, opening])
        del asking, opening
        gc.collect()
    finally:
        loop.set_exception_handler(None)

    assert complaints == []


async def test_only_so_many_entries_stay_in_memory(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "MAX_CACHED_ENTRIES", 10)
    owner, ids = await photos(catalog)
    links = replica(catalog)
    tokens = [(await links.create(owner, ids, f"{number}.zip", DAY))[0] for number in range(6)]

    assert len(links._cached) == 2
    assert links._cached_entries == 8
    for token in tokens:
        assert await links.open(token) is not None
    assert len(links._cached) == 2


async def test_nothing_has_a_known_checksum(catalog: Catalog) -> None:
    """An empty file needs no reading to know its CRC-32."""
    user = await make_user(catalog)
    asset = await upload(catalog, user.id, content=b"")
    async with catalog.engine.begin() as connection:
        await connection.execute(sa.update(tables.file).values(crc32=None))

    _, link = await replica(catalog).create(user.id, [asset.id], "empty.zip", DAY)

    assert link.source.accepts_ranges


async def test_everything_of_an_owner_comes_once_and_in_order(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.catalog.assets.assets.ID_BATCH_SIZE", 4)
    user = await make_user(catalog)
    await photos(catalog)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    dice = random.Random(7)
    for _ in range(13):  # many of the same moment, across the batches
        await upload(catalog, user.id, file_created_at=start + timedelta(seconds=dice.randrange(3)))

    found = await catalog.assets.get_all_visible(user.id)

    places = [(asset.file_created_at, asset.id) for asset in found]
    assert len(set(places)) == 13
    assert places == sorted(places)
