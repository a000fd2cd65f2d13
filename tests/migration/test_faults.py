"""Files with problems are reported and left alone; all others are moved."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.catalog.errors import MigrationBusy
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import FileKind
from app.config import StorageEngine
from app.migration.copy_check import VerifyMethod
from app.migration.reports import ProblemList
from app.migration.source_and_target import OPPOSITE_ENGINE, MoveRefused, find_route, require_engine
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.plan_step import plan_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from app.storage.errors import StorageError, StoragePermission
from app.storage.key import Key
from app.storage.opening import open_storage
from tests.migration.library import ExpectedFile, Library, make_filters, settings_of
from tests.migration.unlisted_folders import hide
from tests.real.mounts import disks_below, fill_up
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import ROOT
from tests.real.stacks import Stacks

METHODS = pytest.mark.parametrize("method", [VerifyMethod.AUTO, VerifyMethod.READBACK])


def named(problems: ProblemList) -> list[tuple[str, str]]:
    """Path and first word of each problem."""
    assert problems.count == len(problems.listed)
    return [(problem.path, problem.problem.partition(":")[0]) for problem in problems.listed]


async def flip(library: Library, path: str) -> None:
    """Flip one bit of the stored object, without the catalogue's knowledge."""
    home = library.storage.find_location(StorageEngine.S3 if path.startswith("s3://") else StorageEngine.LOCAL)
    assert home is not None
    key = home.paths.to_key(path)
    assert key is not None
    async with home.backend.read_stream(key) as stream:
        data = bytearray(b"".join([chunk async for chunk in stream.chunks]))
    data[len(data) // 2] ^= 1
    await home.backend.put_object(key, bytes(data))


@METHODS
async def test_a_flipped_byte_in_a_source_is_found_and_the_file_left(library: Library, method: VerifyMethod) -> None:
    damaged, *_ = await library.fill([50_000, 20_000, 30_000])
    await flip(library, damaged.path)

    report = await run_move(library.work(method=method))
    switched = await switch_move(library.work())

    assert named(report.problems) == [(damaged.path, "damaged")]
    assert (report.files, switched.files) == (2, 2)
    assert (await library.file(damaged)).path == damaged.path
    assert not [path for path in library.at_target() if path.endswith(damaged.path.rpartition("/upload/")[2])]
    await library.age()
    assert (await clean_up_move(library.work())).files == 2
    await library.sweep()
    assert list(library.at_source()) == [damaged.path]


@pytest.mark.parametrize("when", ["before the switch", "after the switch"])
async def test_a_flipped_byte_in_a_target_is_found_and_nothing_deleted(library: Library, when: str) -> None:
    kept, other = await library.fill([50_000, 20_000])
    await run_move(library.work())
    (target,) = [path for path in library.at_target() if path.endswith(kept.path.rpartition("/upload/")[2])]
    if when == "before the switch":
        await flip(library, target)
    await switch_move(library.work())
    if when == "after the switch":
        await flip(library, target)
    await library.age()

    report = await clean_up_move(library.work())

    assert named(report.problems) == [(target, "copy damaged")]
    assert (report.files, report.count_files(MoveState.SWITCHED)) == (1, 1)
    await library.sweep()
    assert set(library.at_source()) == {kept.path}

    back = await roll_back_move(library.work())

    assert back.files == 1
    assert (await library.file(kept)).path == kept.path
    await library.sweep()
    await library.check()
    assert (await library.file(other)).path.startswith(library.target_base)


async def test_a_target_deleted_behind_its_back_is_found_before_the_switch(library: Library) -> None:
    kept, _ = await library.fill([50_000, 20_000])
    await run_move(library.work())
    (target,) = [path for path in library.at_target() if path.endswith(kept.path.rpartition("/upload/")[2])]
    await library.storage.unlink(target)

    switched = await switch_move(library.work())

    assert named(switched.problems) == [(kept.path, "copy missing")]
    assert switched.files == 1
    await library.check()

    assert (await run_move(library.work())).problems.count == 0
    assert (await switch_move(library.work())).files == 1
    await library.age()
    await clean_up_move(library.work())
    await library.check_exact(at=library.target_base)


@pytest.mark.parametrize("size", [0, 49_999, 50_001])
async def test_a_target_of_another_size_is_found_before_the_switch(library: Library, size: int) -> None:
    """The copy is truncated after it was verified."""
    kept, _ = await library.fill([50_000, 20_000])
    await run_move(library.work())
    target = library.work().route.target_path(kept.path)
    await store(library, target, bytes(size))

    switched = await switch_move(library.work())

    assert named(switched.problems) == [(kept.path, "copy damaged")]
    assert (switched.files, switched.count_files(MoveState.COPIED)) == (1, 1)
    assert (await library.file(kept)).path == kept.path
    await library.check()

    assert named((await run_move(library.work())).problems) == [(kept.path, "copy damaged")]
    assert (await switch_move(library.work())).files == 0
    await library.sweep()
    assert kept.path in library.at_source()


async def test_a_target_deleted_after_the_switch_keeps_its_source(library: Library) -> None:
    kept, _ = await library.fill([50_000, 20_000])
    await run_move(library.work())
    await switch_move(library.work())
    target = (await library.file(kept)).path
    await library.storage.unlink(target)
    await library.age()

    report = await clean_up_move(library.work())

    assert named(report.problems) == [(target, "copy missing")]
    await library.sweep()
    assert set(library.at_source()) == {kept.path}
    assert (await roll_back_move(library.work())).files == 1
    await library.sweep()
    await library.check()


async def test_a_damaged_source_is_not_gone_back_to(library: Library) -> None:
    kept, other = await library.fill([50_000, 20_000])
    await run_move(library.work())
    await switch_move(library.work())
    target = (await library.file(kept)).path
    await flip(library, kept.path)

    report = await roll_back_move(library.work())

    assert named(report.problems) == [(target, "damaged")]
    assert (await library.file(other)).path == other.path
    await library.check()


@dataclass(frozen=True, slots=True)
class FileFault:
    """A change of a file or its target before the move, and the expected problem."""

    act: Callable[[Library, ExpectedFile], Awaitable[None]]
    name: str


async def lose(library: Library, kept: ExpectedFile) -> None:
    await library.storage.unlink(kept.path)


async def shorten(library: Library, kept: ExpectedFile) -> None:
    home = library.work().route.source
    key = home.paths.to_key(kept.path)
    assert key is not None
    await home.backend.put_object(key, b"short")


async def occupy(library: Library, kept: ExpectedFile) -> None:
    await _put_at_target(library, kept, b"x" * kept.size)


async def occupy_shorter(library: Library, kept: ExpectedFile) -> None:
    await _put_at_target(library, kept, b"something else")


async def _put_at_target(library: Library, kept: ExpectedFile, data: bytes) -> None:
    key = library.work().route.source.paths.to_key(kept.path)
    assert key is not None
    await library.work().route.target.backend.put_object(key, data)


@pytest.mark.parametrize(
    "file_fault",
    [
        FileFault(lose, "missing"),
        FileFault(shorten, "size"),
        FileFault(occupy, "occupied"),
        FileFault(occupy_shorter, "occupied"),
    ],
    ids=lambda file_fault: file_fault.act.__name__,
)
async def test_what_is_wrong_is_planned_before_and_told_after(library: Library, file_fault: FileFault) -> None:
    kept, _ = await library.fill([50_000, 20_000])
    await file_fault.act(library, kept)
    before = library.stack.objects()

    planned = await plan_move(library.work())

    assert named(planned.problems) == [(kept.path, file_fault.name)]
    assert library.stack.objects() == before
    ran = await run_move(library.work())
    assert named(ran.problems) == [(kept.path, file_fault.name)]
    assert ran.files == 1
    assert before.items() <= library.stack.objects().items()
    assert (await library.file(kept)).path == kept.path


async def test_a_copy_that_is_there_already_is_taken_over_by_its_bytes(library: Library) -> None:
    kept, _ = await library.fill([50_000, 20_000])
    async with library.storage.read(kept.path) as stream:
        data = b"".join([chunk async for chunk in stream.chunks])
    await _put_at_target(library, kept, data)

    assert (await plan_move(library.work())).problems.count == 0
    assert (await run_move(library.work())).problems.count == 0
    await switch_move(library.work())
    await library.check(at=library.target_base)


async def test_what_is_freed_is_what_went(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a clean-up that follows one whose deletes the store refused."""
    somebody = (await library.catalog.users.create("somebody@example.org", "Somebody")).id
    await library.fill([50_000])
    await library.fill([7000], owner=somebody, seed=2)
    await run_move(library.work())
    await switch_move(library.work())
    await library.age()
    source = library.work().route.source.backend

    async def refuse(keys: Sequence[Key]) -> dict[Key, StorageError]:
        return {key: StoragePermission(str(key), source.name, "read-only") for key in keys}

    with monkeypatch.context() as patch:
        patch.setattr(source, "delete_objects", refuse)
        refused = await clean_up_move(library.work(filters=make_filters(library.owner)))
    after = await clean_up_move(library.work())

    assert "freed 0 bytes" in refused.notes
    assert "freed 7000 bytes" in after.notes
    assert "1 sources (50000 bytes) are still to be removed by the sweeper" in after.notes


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer(library: Library) -> None:
    """Also for a host whose clock is a day ahead."""
    await library.fill([1000])
    await run_move(library.work())
    await switch_move(library.work())
    await library.age(timedelta(days=-1))

    async with asyncio.timeout(60):
        cleaned = await clean_up_move(library.work(), retention=timedelta(milliseconds=1))

    assert cleaned.files == 1


async def test_what_is_deleted_meanwhile_is_doomed_at_both_places(library: Library) -> None:
    planned, verified, switched, stays = await library.fill([10_000, 20_000, 30_000, 40_000])
    await library.storage.unlink(planned.path)
    await run_move(library.work())
    await library.delete(planned)
    await library.delete(verified)
    await switch_move(library.work())
    await library.delete(switched)
    await library.age()
    await run_move(library.work())

    report = await clean_up_move(library.work())

    assert report.problems.count == 0
    assert report.count_files(MoveState.DROPPED) == 3
    assert report.migration is not None
    assert (await library.catalog.moves.get_unfinished()) is None
    await library.check_exact(at=library.target_base)
    assert list(library.at_target()) == [(await library.file(stays)).path]


async def test_new_files_are_planned_until_nothing_is_left(library: Library) -> None:
    await library.fill([10_000, 20_000])
    await run_move(library.work())
    await library.fill([30_000], seed=2)
    switched = await switch_move(library.work())
    assert any("run" in note for note in switched.notes), "it says that not all is copied"

    assert (await run_move(library.work())).files == 1
    await switch_move(library.work())
    await library.age()
    await clean_up_move(library.work())
    await library.check_exact(at=library.target_base)


async def test_only_a_user_or_a_kind(library: Library) -> None:
    somebody = (await library.catalog.users.create("somebody@example.org", "Somebody")).id
    await library.fill([10_000, 20_000])
    await library.fill([30_000], seed=2, owner=somebody)

    assert (await run_move(library.work(filters=make_filters(somebody)))).files == 1
    assert (await run_move(library.work(filters=make_filters(None, FileKind.SIDECAR)))).files == 0
    assert (await switch_move(library.work(filters=make_filters(library.owner)))).files == 0
    assert (await switch_move(library.work(filters=make_filters(somebody)))).files == 1
    await library.check()
    assert len(library.at_target()) == 1


async def test_backups_and_markers_go_along(library: Library) -> None:
    source, target = library.work().route.source.backend, library.work().route.target.backend
    await source.put_object(Key("backups/2026-11-01.db.gz"), b"a backup")
    await source.put_object(Key("backups/mediavault-20261101-000000.000.jsonl.gz.unverified"), b"half of one")
    marker = Key(".immich" if library.to is StorageEngine.LOCAL else "thumbs/.immich")

    assert (await run_move(library.work())).problems.count == 0

    assert (await target.head(Key("backups/2026-11-01.db.gz"))).size == 8
    assert not await target.exists(Key("backups/mediavault-20261101-000000.000.jsonl.gz.unverified"))
    assert (await target.head(marker)).size
    assert await source.exists(Key("backups/2026-11-01.db.gz"))
    await source.put_object(Key("backups/2026-11-01.db.gz"), b"b backup")
    assert named((await run_move(library.work())).problems) == [
        (f"{library.source_base}backups/2026-11-01.db.gz", "occupied")
    ]


async def test_a_backup_whose_name_is_no_key_keeps_none_of_the_others(library: Library) -> None:
    source, target = library.work().route.source, library.work().route.target
    odd = f"backups/b{'x' * 230}"
    for name in ("backups/a.jsonl.gz", "backups/c.jsonl.gz"):
        await source.backend.put_object(Key(name), b"a backup")
    if library.to is StorageEngine.S3:
        Path(library.source_base, odd).write_bytes(b"odd")
    else:
        bucket = library.stack.bucket
        assert bucket
        bucket.server.administration.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/{odd}", Body=b"odd")

    ran = await run_move(library.work())

    told = named(ran.problems)
    if library.to is StorageEngine.LOCAL or told:  # a listing of a folder may omit such files
        assert told == [(f"{library.source_base}{odd}", "name")]
    assert await target.backend.exists(Key("backups/a.jsonl.gz"))
    assert await target.backend.exists(Key("backups/c.jsonl.gz"))


async def test_one_at_a_time(library: Library) -> None:
    await library.fill([10_000])
    async with library.catalog.moves.lock_ledger() as still_held:
        await still_held()
        for command in (run_move, switch_move, roll_back_move, clean_up_move):
            with pytest.raises(MigrationBusy):
                await command(library.work())
    assert (await run_move(library.work())).files == 1


async def test_the_other_way_waits_until_this_one_is_finished(library: Library) -> None:
    await library.fill([10_000])
    await run_move(library.work())
    back = await Library.create(
        library.stack, StorageEngine.LOCAL if library.to is StorageEngine.S3 else StorageEngine.S3
    )
    try:
        with pytest.raises(MoveRefused, match=r"is not finished: `mediavault migrate cleanup"):
            await run_move(back.work())
        await roll_back_move(library.work())
        assert (await plan_move(back.work())).files == 0
    finally:
        await back.aclose()


async def test_the_engine_is_set_first(library: Library) -> None:
    storage = await open_storage(settings_of(library.stack, OPPOSITE_ENGINE[library.to]))
    try:
        with pytest.raises(MoveRefused, match="IMMICH_STORAGE_ENGINE is"):
            require_engine(storage, library.to)
        assert find_route(storage, library.to).target.engine is library.to
    finally:
        await storage.aclose()


async def test_an_unmounted_source_is_refused_and_not_lost(library: Library) -> None:
    await library.fill([10_000])
    source = library.work().route.source.backend
    marker = Key(".immich" if library.to is StorageEngine.LOCAL else "upload/.immich")
    await source.delete_object(marker)

    for command in (plan_move, run_move):
        with pytest.raises(MoveRefused, match="looks unmounted"):
            await command(library.work())


async def test_a_bucket_that_may_only_be_read_is_told_before_anything_is_copied(
    stacks: Stacks, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    stack = stacks.create("s3", tmp_path, database="sqlite")
    assert stack.bucket
    place = f"{stack.bucket.name}/{stack.bucket.prefix}/*"
    reader = seaweedfs.add_identity(f"reader-{stack.bucket.prefix[-6:]}", [f"Read:{place}", f"List:{place}"])
    library = await Library.create(replace(stack, bucket=replace(stack.bucket, identity=reader)), StorageEngine.S3)
    await library.fill([100])
    try:
        planned = await plan_move(library.work())
        assert named(planned.problems) == [(library.target_base, "forbidden")]
        with pytest.raises(MoveRefused, match="cannot be used"):
            await run_move(library.work())
    finally:
        await library.aclose()


async def test_no_room_for_a_listing_is_a_refusal(library: Library, tmp_path: Path) -> None:
    """The refusal names the setting, and nothing has changed."""
    await library.fill([5000])
    await run_move(library.work())
    with disks_below(tmp_path) as disks:
        full = disks.make().content
        fill_up(full)
        storage = await open_storage(settings_of(library.stack, library.to, MEDIAVAULT_STAGING_FOLDER=str(full)))
        for act in (plan_move, switch_move):
            with pytest.raises(MoveRefused, match="MEDIAVAULT_STAGING_FOLDER"):
                await act(replace(library.work(), storage=storage))
        await storage.aclose()

    await switch_move(library.work())
    await library.check(at=library.target_base)


async def test_what_is_in_a_folder_that_may_not_be_listed_is_not_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder, at source or target on disk, is named, and all visible files are moved."""
    await library.fill([5000, 6000])
    folder = f"upload/{library.owner}/00"
    (library.stack.media / folder).mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patched:
        hide(patched, folder)

        planned = await plan_move(library.work())
        assert named(planned.problems) == [(str(library.stack.media / folder), "forbidden")]
        assert planned.files == 2
        assert not (await run_move(library.work())).problems.count
        switched = await switch_move(library.work())
        unseen = library.to is StorageEngine.LOCAL
        assert [problem for _, problem in named(switched.problems)] == ["forbidden"] * (2 if unseen else 0)
        assert switched.count_files(MoveState.VERIFIED) == (2 if unseen else 0)

    await switch_move(library.work())
    await library.check(at=library.target_base)


def test_files_that_may_not_be_read_are_told_before_anything_is_copied(tmp_path: Path) -> None:
    """Runs as a user who is not root, because root may read everything."""
    for name, mode in (("readable.jpg", 0o644), ("secret.jpg", 0o000)):
        (tmp_path / name).write_bytes(b"data")
        (tmp_path / name).chmod(mode)
    program = (
        "import os, sys, asyncio; from pathlib import Path\n"
        "from app.config import StorageEngine; from app.storage.key import Key; from app.storage.local import LocalBackend\n"
        "from app.storage.path import LocalPaths; from app.storage.service import StorageLocation; from app.migration.steps.plan_step import find_unreadable\n"
        "root = Path(sys.argv[1]); location = StorageLocation(StorageEngine.LOCAL, LocalBackend(root), LocalPaths(str(root)))\n"
        "os.getuid() or os.setuid(65534)\n"
        "print(*find_unreadable(location, [Key('readable.jpg'), Key('secret.jpg'), Key('missing.jpg')]))\n"
    )
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to(Path(tempfile.gettempdir())):
            folder.chmod(folder.stat().st_mode | 0o111)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["secret.jpg"], done.stderr


async def store(library: Library, path: str, data: bytes | None) -> None:
    """Replace an object, or delete it where `data` is None, without the catalogue's knowledge."""
    home = library.storage.find_location(StorageEngine.S3 if path.startswith("s3://") else StorageEngine.LOCAL)
    assert home is not None
    key = home.paths.to_key(path)
    assert key is not None
    if data is None:
        await home.backend.delete_object(key)
    else:
        await home.backend.put_object(key, data)


async def test_the_only_whole_copy_is_not_given_up(library: Library) -> None:
    """The sources are damaged after the copy, before the switch."""
    gone, damaged, well = await library.fill([50_000, 20_000, 30_000])
    await run_move(library.work())
    await store(library, gone.path, None)
    await flip(library, damaged.path)

    back = await roll_back_move(library.work())

    assert sorted(named(back.problems)) == sorted([(gone.path, "missing"), (damaged.path, "damaged")])
    await library.sweep()
    assert sorted(library.at_target().values()) == [20_000, 50_000]
    await switch_move(library.work())
    await library.check()
    assert (await library.file(well)).path == well.path


async def test_other_bytes_at_the_target_outlive_a_rollback(library: Library) -> None:
    kept, deleted = await library.fill([50_000, 20_000])
    for file in (kept, deleted):
        await store(library, library.work().route.target_path(file.path), b"somebody else's")
    assert sorted(named((await run_move(library.work())).problems)) == sorted(
        (f.path, "occupied") for f in (kept, deleted)
    )
    await library.delete(deleted)

    await roll_back_move(library.work())

    await library.age()
    await library.sweep()
    assert list(library.at_target().values()) == [15, 15]


async def test_a_catalogue_of_before_the_move_takes_the_copies_over(library: Library) -> None:
    """After the restore of an old backup the sources are missing, and no row names the copies."""
    taken, lost = await library.fill([50_000, 20_000])
    with_copy = library.work().route.target_path(taken.path)
    async with library.storage.read(taken.path) as stream:
        await store(library, with_copy, b"".join([chunk async for chunk in stream.chunks]))
    for file in (taken, lost):
        await store(library, file.path, None)

    assert named((await plan_move(library.work())).problems) == [(lost.path, "missing")]
    assert named((await run_move(library.work())).problems) == [(lost.path, "missing")]
    await switch_move(library.work())
    assert (await library.file(taken)).path == with_copy
    assert await library.sha256(with_copy) == taken.sha256
