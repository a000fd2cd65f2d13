"""`ArchiveSource`: the bytes sent, read-ahead and its budget, lost members, and moved files."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from app.archives.errors import MemberLost
from app.archives.read_ahead import ReadAheadBudget
from app.archives.stream import LOOKUP_BATCH, ArchiveSource
from app.catalog.errors import CatalogUnavailable
from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.ranges import ByteRange
from tests.archives.member_store import CHUNK, MemberStore, read_archive

PLACES = ["local", "s3", "mixed"]


def filled(count: int, place: str = "s3", size: int = 2500) -> tuple[MemberStore, list[UUID]]:
    store = MemberStore()
    ids = []
    for number in range(count):
        slash = "/" if place == "local" or (place == "mixed" and number % 3) else ""
        ids.append(store.put(f"{slash}{number}", random.Random(number).randbytes(size)))
    return store, ids


def unzipped(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("place", PLACES)
async def test_members_come_whole_and_in_order(place: str) -> None:
    store, ids = filled(40, place)
    source = store.source(store.manifest(ids))

    archive = await read_archive(source)

    assert len(archive) == source.size
    contents = [store.objects[store.files[asset_id].path] for asset_id in ids]
    assert unzipped(archive) == {f"{number}.jpg": content for number, content in enumerate(contents)}
    assert store.open_now == 0


@pytest.mark.parametrize("place", PLACES)
async def test_any_range_is_the_slice_of_the_whole(place: str) -> None:
    store, ids = filled(20, place)
    source = store.source(store.manifest(ids))
    whole = await read_archive(source)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(150):
        first = dice.randrange(source.size)
        last = min(source.size - 1, first + dice.choice([0, 1, 40, 3000, 60_000]))

        assert await read_archive(source, ByteRange(first, last)) == whole[first : last + 1]
    assert store.open_now == 0


async def test_a_range_opens_only_the_members_that_it_needs() -> None:
    store, ids = filled(50)
    source = store.source(store.manifest(ids))
    start = next(member.offset for member in source.layout.iter_members() if member.index == 10)

    await read_archive(source, ByteRange(start, start + 5000))

    assert store.opened == ["10", "11"]


async def test_headers_and_directory_open_nothing() -> None:
    store, ids = filled(50)
    source = store.source(store.manifest(ids))
    store.files.clear()

    await read_archive(source, ByteRange(0, 20))
    await read_archive(source, ByteRange(source.size - 1000, source.size - 1))

    assert store.opened == []


async def test_an_archive_of_nothing() -> None:
    store = MemberStore()

    assert unzipped(await read_archive(store.source(store.manifest([])))) == {}


async def test_members_that_share_an_object() -> None:
    store, ids = filled(3)
    wanted = [ids[number % 3] for number in range(3 * LOOKUP_BATCH)]

    archive = unzipped(await read_archive(store.source(store.manifest(wanted))))

    assert len(archive) == 3 * LOOKUP_BATCH
    assert archive[f"{3 * LOOKUP_BATCH - 1}.jpg"] == store.objects["2"]


async def test_places_are_asked_for_in_batches() -> None:
    store, ids = filled(1000, size=10)

    await read_archive(store.source(store.manifest(ids)))

    assert store.lookups <= 1000 // (LOOKUP_BATCH // 2) + 1


async def test_no_chunk_is_larger_than_a_chunk_even_of_a_huge_directory() -> None:
    store, ids = filled(1, size=10)
    source = store.source(store.manifest(ids * 20_000))

    async with source.read(ByteRange(source.layout.size - 1_500_000, source.layout.size - 1)) as chunks:
        sizes = [len(chunk) async for chunk in chunks]

    assert sum(sizes) == 1_500_000
    assert max(sizes) <= MAX_CHUNK_BYTES // 2


async def test_a_member_that_moved_is_found_again() -> None:
    store, ids = filled(40)
    source = store.source(store.manifest(ids))
    whole = await read_archive(source)
    store.before_chunk = lambda path, sent: (
        [store.move(ids[number], f"/moved/{number}") for number in range(30, 40) if f"{number}" in store.objects]
        if path == "5"
        else None
    )

    assert await read_archive(source) == whole
    assert store.opened[-1] == "/moved/39"


class TestAhead:
    async def test_opens_ahead_up_to_the_depth(self) -> None:
        store, ids = filled(100)

        await read_archive(store.source(store.manifest(ids), ReadAheadBudget(depth=16)))

        assert store.most_open == 16

    async def test_opens_nothing_ahead_on_disk(self) -> None:
        store, ids = filled(100, "local")

        await read_archive(store.source(store.manifest(ids)))

        assert store.most_open == 1

    async def test_transfers_share_one_budget_and_all_end_well(self) -> None:
        store, ids = filled(60)
        budget = ReadAheadBudget(depth=16, max_streams=20)
        source = store.source(store.manifest(ids), budget)
        whole = await read_archive(source)
        transfers = 8

        assert await asyncio.gather(*(read_archive(source) for _ in range(transfers))) == [whole] * transfers
        assert store.most_open <= 20 + transfers
        assert (budget.free_streams, store.open_now) == (20, 0)

    async def test_bytes_bound_it_too(self) -> None:
        store, ids = filled(60, size=5000)

        await read_archive(store.source(store.manifest(ids), ReadAheadBudget(max_bytes=20_000)))

        assert store.most_open <= 5

    async def test_without_a_budget_it_is_slower_not_wrong(self) -> None:
        store, ids = filled(20)
        source = store.source(store.manifest(ids), ReadAheadBudget(max_streams=0))

        assert len(await read_archive(source)) == source.size
        assert store.most_open == 1

    async def test_a_reader_that_leaves_closes_everything_and_gives_all_back(self) -> None:
        store, ids = filled(60)
        budget = ReadAheadBudget()
        full = (budget.free_streams, budget.free_bytes)
        source = store.source(store.manifest(ids), budget)
        async with source.read(None) as chunks:
            await anext(chunks)
            assert store.open_now > 1

        assert store.open_now == 0
        assert (budget.free_streams, budget.free_bytes) == full

    async def test_a_client_that_pauses_gives_its_shares_back_and_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.archives.read_ahead.IDLE_SECONDS", 0.05)
        store, ids = filled(100)
        budget = ReadAheadBudget(depth=16, max_streams=16)
        source = store.source(store.manifest(ids), budget)
        whole = await read_archive(source)
        async with source.read(None) as chunks:
            begun = await anext(chunks)
            assert budget.free_streams < 8
            for _ in range(1000):
                if budget.free_streams == 15:  # one is being sent
                    break
                await asyncio.sleep(0.01)
            assert budget.free_streams == 15
            assert store.open_now <= 1
            before = store.most_open = store.open_now

            rest = [chunk async for chunk in chunks]

        assert begun + b"".join(rest) == whole
        assert before < 8 <= store.most_open
        assert (budget.free_streams, store.open_now) == (16, 0)

    async def test_a_client_that_is_slow_at_every_step_gets_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The member's turn comes at about the moment at which its prefetch times out."""
        monkeypatch.setattr("app.archives.read_ahead.IDLE_SECONDS", 0.003)
        monkeypatch.setattr("app.archives.stream.GATHER_BYTES", 1)
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        store, ids = filled(60)
        budget = ReadAheadBudget()
        source = store.source(store.manifest(ids), budget)
        whole = await read_archive(source)
        received = []
        async with asyncio.timeout(30), source.read(None) as chunks:
            async for chunk in chunks:
                received.append(chunk)
                await asyncio.sleep(dice.choice([0, 0.001, 0.003, 0.006]))

        assert b"".join(received) == whole
        assert (budget.free_streams, store.open_now) == (ReadAheadBudget().free_streams, 0)

    async def test_a_cancellation_at_any_point_leaves_nothing(self) -> None:
        """The transfer is cancelled after every possible number of event loop steps, also twice."""
        store, ids = filled(12)
        budget = ReadAheadBudget()
        full = (budget.free_streams, budget.free_bytes)
        source = store.source(store.manifest(ids), budget)
        before = asyncio.all_tasks()
        for steps in range(400):
            transfer = asyncio.create_task(read_archive(source))
            for _ in range(steps // 2):
                await asyncio.sleep(0)
            transfer.cancel()
            if steps % 2:
                await asyncio.sleep(0)
                transfer.cancel()
            await asyncio.gather(transfer, return_exceptions=True)
            for _ in range(5):
                await asyncio.sleep(0)

            assert asyncio.all_tasks() == before
            assert store.open_now == 0
            assert (budget.free_streams, budget.free_bytes) == full


class TestLosses:
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_deleted_member_ends_the_transfer(self, place: str) -> None:
        store, ids = filled(300 + LOOKUP_BATCH, place)
        source = store.source(store.manifest(ids))
        del store.files[ids[-3]]

        archive, error = await _until_lost(source)

        assert error.asset_id == ids[-3]
        assert 0 < len(archive) < source.size
        assert (source.lost_members.count, store.open_now) == (1, 0)

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_deleted_object_ends_the_transfer(self, place: str) -> None:
        store, ids = filled(120, place)
        source = store.source(store.manifest(ids))
        del store.objects[store.files[ids[100]].path]

        archive, error = await _until_lost(source)

        assert error.asset_id == ids[100]
        assert 0 < len(archive) < source.size
        assert (source.lost_members.count, store.open_now) == (1, 0)

    async def test_a_member_known_to_be_lost_is_told_before_the_first_byte(self) -> None:
        store, ids = filled(200)
        source = store.source(store.manifest(ids))
        del store.files[ids[199]]

        archive, _ = await _until_lost(source)

        assert archive == b""
        assert store.opened == []

    async def test_moved_and_then_deleted_is_lost(self) -> None:
        store, ids = filled(2)
        source = store.source(store.manifest(ids))
        answers = [dict(store.files), {ids[0]: replace(store.files[ids[0]], path="elsewhere")}]
        del store.objects["0"]

        async def originals(asset_ids: object) -> dict[UUID, object]:
            return dict(answers.pop(0))

        store.get_original_files = originals  # pyright: ignore[reportAttributeAccessIssue]
        _, error = await _until_lost(source)

        assert error.asset_id == ids[0]

    @pytest.mark.parametrize("place", ["local", "s3"])
    @pytest.mark.parametrize("content", [b"", b"x", b"x" * 2499, b"x" * 2501])
    @pytest.mark.parametrize("first", [None, 200, 2400])
    async def test_another_size_is_lost(self, place: str, content: bytes, first: int | None) -> None:
        store, ids = filled(1, place)
        source = store.source(store.manifest(ids))
        store.objects[store.files[ids[0]].path] = content

        archive, error = await _until_lost(source, None if first is None else ByteRange(first, first + 50))

        assert error.asset_id == ids[0]
        assert archive == b""
        assert source.lost_members.count == 1

    @pytest.mark.parametrize("change", [{"sha1": b"other"}, {"sha1": None}, {"size": 3}])
    async def test_another_content_is_lost(self, change: dict[str, object]) -> None:
        store, ids = filled(3)
        source = store.source(store.manifest(ids))
        store.files[ids[1]] = replace(store.files[ids[1]], **change)  # pyright: ignore[reportArgumentType]

        _, error = await _until_lost(source)

        assert error.asset_id == ids[1]

    @pytest.mark.parametrize(
        "error", [ObjectChanged("0", "shelf"), ObjectNotFound("0", "shelf")], ids=["changed", "gone"]
    )
    async def test_a_member_that_changes_while_it_is_read_is_lost(self, error: Exception) -> None:
        store, ids = filled(3, size=200_000)
        source = store.source(store.manifest(ids))

        def fail(path: str, sent: int) -> None:
            if path == "1" and sent >= 150_000:
                raise error

        store.before_chunk = fail
        archive, lost = await _until_lost(source)

        assert lost.asset_id == ids[1]
        assert 200_000 < len(archive) < source.size
        assert store.open_now == 0

    @pytest.mark.parametrize("place", ["local", "s3"])
    @pytest.mark.parametrize("bytes_", [CHUNK, 4 * CHUNK], ids=["fewer", "more"])
    async def test_a_store_that_gives_another_number_of_bytes_shifts_nothing(self, place: str, bytes_: int) -> None:
        store, ids = filled(3, place)
        source = store.source(store.manifest(ids))

        async def wrong(path: str, content: bytes, served: object) -> AsyncIterator[bytes]:
            for _ in range(bytes_ // CHUNK):
                yield bytes(CHUNK)

        store._chunks = wrong  # pyright: ignore[reportAttributeAccessIssue]
        archive, lost = await _until_lost(source)

        assert lost.asset_id == ids[0]
        assert len(archive) < source.layout._starts[1]

    @pytest.mark.parametrize("position", [0, 1])
    async def test_an_external_file_that_was_edited_in_place_is_lost(self, position: int) -> None:
        """The edit keeps the length, and no scan has seen it: without the check the zip would be complete and wrong."""
        store = MemberStore()
        ids = [store.put(f"/library/{n}.jpg", bytes([n]) * 5000) for n in range(2)]
        source = store.source(store.manifest(ids))
        assert len(await read_archive(source)) == source.size
        store.objects[f"/library/{position}.jpg"] = b"edited..." * 555 + b"end.."

        given, lost = await _until_lost(source)

        assert lost.asset_id == ids[position]
        assert len(given) < source.size

    async def test_a_store_that_is_away_is_no_loss(self) -> None:
        store, ids = filled(30)
        source = store.source(store.manifest(ids))

        def fail(path: str, sent: int) -> None:
            if path == "20":
                raise StorageUnavailable(path, "shelf")

        store.before_chunk = fail
        with pytest.raises(StorageUnavailable):
            await read_archive(source)

        assert (source.lost_members.count, store.open_now) == (0, 0)

    async def test_a_range_that_needs_no_lost_member_works(self) -> None:
        store, ids = filled(10)
        source = store.source(store.manifest(ids))
        whole = await read_archive(source)
        start = source.layout._starts[6]
        del store.files[ids[5]]

        assert await read_archive(source, ByteRange(start)) == whole[start:]
        with pytest.raises(MemberLost):
            await read_archive(source, ByteRange(start - 1))


class TestUnknownChecksums:
    async def test_are_computed_on_the_way_and_kept(self) -> None:
        store, ids = filled(10)
        unknown = frozenset(ids[2:5])
        source = store.source(store.manifest(ids, unknown=unknown))

        archive = await read_archive(source)

        assert not source.accepts_ranges
        assert len(archive) == source.size
        assert unzipped(archive)["3.jpg"] == store.objects["3"]
        assert store.kept == [(store.files[asset_id].id, store.files[asset_id].crc32) for asset_id in ids[2:5]]

    async def test_nothing_is_kept_of_a_member_that_was_not_read_to_its_end(self) -> None:
        store, ids = filled(1, size=500_000)
        source = store.source(store.manifest(ids, unknown=frozenset(ids)))
        async with source.read(None) as chunks:
            await anext(chunks)

        assert store.kept == []

    async def test_a_catalogue_that_cannot_keep_it_does_not_end_the_transfer(self) -> None:
        store, ids = filled(3)
        store.keep_error = CatalogUnavailable("locked")
        source = store.source(store.manifest(ids, unknown=frozenset(ids)))

        assert len(unzipped(await read_archive(source))) == 3


async def _until_lost(source: ArchiveSource, byte_range: ByteRange | None = None) -> tuple[bytes, MemberLost]:
    """The bytes sent before the loss, and the exception."""
    given = bytearray()
    try:
        async with source.read(byte_range) as chunks:
            async for chunk in chunks:
                given += chunk
    except MemberLost as lost:
        return bytes(given), lost
    raise AssertionError("the transfer ended well")
