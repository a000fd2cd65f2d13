"""`ConsistencyCheck` reports every difference between catalogue and storage, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from app.catalog.database.engine import now
from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, FileState
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.consistency.findings import FindingKind
from app.storage.backend import ObjectInfo
from app.storage.errors import StagingFull, StorageUnavailable
from app.storage.key import Key
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.catalog.rows import LEASE
from tests.migration.unlisted_folders import hide
from tests.migration.verify.damaged_library import DamagedLibrary
from tests.real.mounts import disks_below, fill_up

AHEAD = timedelta(days=3)


async def test_a_library_that_is_well(library: DamagedLibrary) -> None:
    await library.fill()
    for key in (
        ".immich",
        "upload/.immich",
        "backups/.immich",
        "backups/immich-db-backup-1.sql.gz",
        "quarantine/1/x.jpg",
    ):
        await library.put(key)
    await library.store(FileKind.ORIGINAL, f"upload/{library.owner}/being-written.jpg", b"not live yet")
    gone = await library.catalog.files.begin_write(
        library.owner, FileKind.ORIGINAL, library.storage.managed_path(Key("upload/gone.jpg")), "image/jpeg", LEASE
    )
    await library.catalog.files.mark_for_deletion(gone.id)

    async with library.storage.write(library.storage.managed_path(Key("upload/half.jpg"))) as unfinished:
        await unfinished.write(bytes(9_000_000))
        summary, found = await library.verify(checksums=True)

    assert found == []
    assert (summary.files, summary.unsettled, summary.objects) == (6, 2, 6 + 1 + 5)
    assert summary.known == {"marker": 3, "backup": 1, "quarantined": 1}
    assert summary.bytes_read == sum(file.size or 0 for file in library.files)


async def test_every_kind_of_damage_is_named(library: DamagedLibrary) -> None:
    await library.fill(8)
    missing, short, flipped, emptied, *_, well = library.files[1:]
    await library.spoil(missing.path, None)
    await library.spoil(short.path, (await library.bytes_of(short.path))[:-1])
    await library.spoil(emptied.path, b"")
    damaged = bytearray(await library.bytes_of(flipped.path))
    damaged[-1] ^= 1
    await library.spoil(flipped.path, bytes(damaged))
    orphan = await library.put(f"upload/{library.owner}/nobody's.jpg")

    seen = {
        missing.path: FindingKind.MISSING,
        short.path: FindingKind.SIZE,
        emptied.path: FindingKind.SIZE,
        orphan: FindingKind.ORPHAN,
    }
    assert await library.problems() == seen
    assert await library.problems(checksums=True) == {**seen, flipped.path: FindingKind.CHECKSUM}
    assert await library.bytes_of(well.path), "and nothing was touched"
    assert await library.bytes_of(orphan) == b"nobody's"


async def test_a_file_whose_place_no_setting_names(library: DamagedLibrary) -> None:
    lost, external = await library.add("a.jpg", b"1"), await library.add("b.jpg", b"2")
    async with library.catalog.engine.begin() as connection:
        for file, path in ((lost, "s3://another-bucket/a.jpg"), (external, "/somewhere/else/b.jpg")):
            await connection.execute(update(tables.file).where(tables.file.c.id == file.id).values(path=path))

    summary, found = await library.verify()

    assert {(finding.problem, finding.path) for finding in found if finding.file} == {
        (FindingKind.UNPLACED, "s3://another-bucket/a.jpg")
    }
    assert summary.external == 1
    assert {finding.path for finding in found if not finding.file} == {lost.path, external.path}


async def test_a_library_that_is_on_both_engines(library: DamagedLibrary, stack: str) -> None:
    if stack == "local":
        assert await library.problems() == {}
        return
    await library.fill(3)
    base = library.storage._local_paths
    assert base is not None
    here = library.files[1]
    path = base.to_path(Key("upload/old.jpg"))
    await library.spoil(path, await library.bytes_of(here.path))
    await library.spoil(here.path, None)
    orphan = base.to_path(Key("upload/orphan.jpg"))
    await library.spoil(orphan, b"x")
    async with library.catalog.engine.begin() as connection:
        await connection.execute(update(tables.file).where(tables.file.c.id == here.id).values(path=path))

    assert await library.problems(checksums=True) == {orphan: FindingKind.ORPHAN}
    await library.spoil(path, None)
    assert await library.problems() == {orphan: FindingKind.ORPHAN, path: FindingKind.MISSING}


async def test_a_folder_that_may_not_be_listed_is_a_problem_and_what_is_in_it_none(
    library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder lies on the local disk, also with engine S3."""
    await library.fill(3)
    folder = f"upload/{library.owner}"
    place = library.storage.find_location(StorageEngine.LOCAL)
    assert place is not None
    await place.backend.put_object(Key(f"{folder}/nobody's.jpg"), b"who knows")
    hide(monkeypatch, folder)

    assert await library.problems() == {place.paths.to_listed_path(folder): FindingKind.UNREADABLE}


async def test_no_room_for_the_listing_is_told(
    library: DamagedLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.fill(1)
    with disks_below(tmp_path) as disks:
        full = disks.make().content
        fill_up(full)
        staging = Staging(full, 0)
        monkeypatch.setattr(library.storage, "staging", staging)
        with pytest.raises(StagingFull, match=str(full)):
            await library.verify()
        await staging.aclose()


class AfterListing:
    """Storage that calls a function at the end of the listing, the moment at which a change is hardest to detect."""

    def __init__(self, storage: StorageService, monkeypatch: pytest.MonkeyPatch) -> None:
        self._list = storage.list_managed
        self._after: list[object] = []
        monkeypatch.setattr(storage, "list_managed", self._listed)

    def do(self, *work: object) -> None:
        self._after += work

    async def _listed(self, prefix: str = "") -> AsyncIterator[tuple[str, ObjectInfo]]:
        everything = [each async for each in self._list(prefix)]
        for work in self._after:
            await work  # type: ignore[misc]
        for each in everything:
            yield each


@pytest.fixture
def after_listing(library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch) -> AfterListing:
    return AfterListing(library.storage, monkeypatch)


@pytest.mark.parametrize("checksums", [False, True])
async def test_what_is_deleted_meanwhile_is_no_loss(
    library: DamagedLibrary, after_listing: AfterListing, checksums: bool
) -> None:
    await library.fill()
    assets = [asset.id for asset in await library.catalog.assets.get_all_visible(library.owner)]

    async def delete_and_sweep() -> None:
        await library.catalog.assets.delete(library.owner, assets)
        await sweep(library.catalog, library.storage, now=datetime.now(UTC) + AHEAD)

    after_listing.do(delete_and_sweep())
    assert await library.problems(checksums=checksums) == {}


async def test_what_is_uploaded_meanwhile_is_neither(library: DamagedLibrary, after_listing: AfterListing) -> None:
    after_listing.do(library.fill())
    assert await library.problems() == {}


async def test_what_is_moved_meanwhile_is_found_where_it_went(
    library: DamagedLibrary, after_listing: AfterListing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is read before the switch, the object looked up after its source was removed."""
    await library.fill(4)
    file = library.files[3]
    target = library.storage.managed_path(Key("upload/moved.jpg"))
    stat = library.storage.stat
    moved = False

    async def stat_after_the_move(path: str) -> ObjectInfo:
        nonlocal moved
        if not moved:
            moved = True
            await library.storage.copy(file.path, target)
            async with library.catalog.engine.begin() as connection:
                row = {column.name: getattr(file, column.name) for column in tables.file.c}
                await connection.execute(update(tables.file).where(tables.file.c.id == file.id).values(path=target))
                twin = row | {"id": library.owner, "state": FileState.DOOMED, "not_before": now()}
                await connection.execute(insert(tables.file).values(twin))
            await library.storage.unlink(file.path)
        return await stat(path)

    monkeypatch.setattr(library.storage, "stat", stat_after_the_move)
    monkeypatch.setattr("app.migration.listing_store.ListingStore.sizes", nothing_listed)
    assert await library.problems() == {}
    assert moved


async def nothing_listed(*_: object) -> dict[str, int]:
    return {}


async def test_a_store_that_is_away_is_no_loss(library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check ends with the store's error after a few dozen files, and reports no file as missing."""
    await library.fill(12)

    async def away(path: str) -> ObjectInfo:
        raise StorageUnavailable(path, "s3", "is away")

    monkeypatch.setattr("app.migration.consistency.consistency_check._PAUSE_SECONDS", 0)
    monkeypatch.setattr("app.migration.consistency.consistency_check._MAX_UNAVAILABLE", 10)
    monkeypatch.setattr("app.migration.listing_store.ListingStore.sizes", nothing_listed)
    monkeypatch.setattr(library.storage, "stat", away)
    with pytest.raises(StorageUnavailable, match="is away"):
        await library.verify()


async def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_looked_at(
    library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.fill()
    bad, lost = library.files[2], library.files[4]
    await library.spoil(lost.path, None)
    stat = library.storage.stat

    async def sometimes(path: str) -> ObjectInfo:
        if path == bad.path:
            raise StorageUnavailable(path, "local", "Input/output error")
        return await stat(path)

    monkeypatch.setattr("app.migration.consistency.consistency_check._PAUSE_SECONDS", 0)
    monkeypatch.setattr("app.migration.listing_store.ListingStore.sizes", nothing_listed)
    monkeypatch.setattr(library.storage, "stat", sometimes)
    assert await library.problems() == {bad.path: FindingKind.UNREADABLE, lost.path: FindingKind.MISSING}


async def test_names_that_others_gave_their_objects(library: DamagedLibrary, stack: str) -> None:
    """They are no valid keys: reported, and left alone. On disk such files are not listed at all."""
    await library.fill(2)
    if stack == "local":
        Path(library.stack.media, "upload", "back\\slash.jpg").write_bytes(b"x")
        Path(library.stack.media, "upload", "link.jpg").symlink_to("/etc/hostname")
        assert await library.problems() == {}
        return
    assert library.stack.bucket is not None
    path = f"s3://{library.stack.bucket.name}/{library.stack.bucket.prefix}/upload/{'x' * 230}.jpg"
    await library.spoil(path, b"x")
    _, found = await library.verify()
    assert [(finding.problem, finding.path) for finding in found] == [(FindingKind.ORPHAN, path)]
    assert "name" in found[0].detail
    await library.spoil(path, None)


async def test_it_looks_at_a_bounded_number_at_a_time(library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    await library.fill(20)
    reading = most = 0
    read = library.storage.read

    def counted(path: str):
        nonlocal reading, most
        inner = read(path)

        class Counted:
            async def __aenter__(self):
                nonlocal reading, most
                reading += 1
                most = max(most, reading)
                await asyncio.sleep(0.001)
                return await inner.__aenter__()

            async def __aexit__(self, *error: object) -> None:
                nonlocal reading
                reading -= 1
                await inner.__aexit__(*error)  # type: ignore[arg-type]

        return Counted()

    monkeypatch.setattr(library.storage, "read", counted)
    summary, found = await library.verify(checksums=True, concurrency=3)
    assert found == []
    assert summary.files == 20
    assert most == 3
