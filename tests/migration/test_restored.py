"""Restores a catalogue from before a move: outdated rows do not make the sweeper delete objects that are in use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from app.catalog.catalog import open_catalog
from app.migration.backups.backup_store import BackupInfo, BackupStore
from app.migration.backups.restore import restore_backup
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.catalog.rows import make_user
from tests.migration.conftest import MoveDirection
from tests.migration.library import Library, make_filters, settings_of
from tests.real.stacks import Stacks

Restored = Callable[[Library, BackupInfo], Awaitable[Library]]


@pytest.fixture
async def restored(stacks: Stacks, way: MoveDirection) -> AsyncIterator[Restored]:
    """The library with its catalogue restored into a new database, and with the current objects."""
    async with AsyncExitStack() as opened:

        async def bring_back(library: Library, backup: BackupInfo) -> Library:
            folder = library.stack.folder / "restored"
            folder.mkdir()
            db_url = stacks.create("local", folder, database=way.database).db_url
            async with library.storage.read(backup.path) as stream:
                await restore_backup(settings_of(library.stack, library.to, DB_URL=db_url), stream.chunks)
            catalog = await open_catalog(db_url)
            opened.push_async_callback(catalog.aclose)
            return replace(library, catalog=catalog, stack=replace(library.stack, db_url=db_url))

        yield bring_back


async def backup(library: Library) -> BackupInfo:
    return await BackupStore(library.catalog, library.storage, settings_of(library.stack, library.to)).create()


async def move(library: Library) -> None:
    await run_move(library.work())
    await switch_move(library.work())
    await library.age()
    await clean_up_move(library.work())
    await library.sweep()


def photos(found: dict[str, int]) -> list[int]:
    return sorted(size for path, size in found.items() if "/upload/" in path)


async def test_a_copy_that_was_to_go_and_is_the_only_one_now(library: Library, restored: Restored) -> None:
    """The move was rolled back before the backup, and repeated after it."""
    await library.fill([5000, 6000])
    await run_move(library.work())
    await switch_move(library.work())
    await roll_back_move(library.work())
    made = await backup(library)
    await library.sweep()
    await move(library)

    again = await restored(library, made)

    await again.sweep()
    assert photos(again.at_target()) == [5000, 6000]
    await run_move(again.work())
    await switch_move(again.work())
    await again.sweep()
    await again.check(at=again.target_base)


async def test_copies_of_a_move_that_was_under_way_and_has_gone_on_since(library: Library, restored: Restored) -> None:
    """For a file that was cleaned up after the backup, and one that its owner had deleted before."""
    other = (await make_user(library.catalog)).id
    kept, deleted = *await library.fill([5000]), *await library.fill([6000], owner=other, seed=2)
    await run_move(library.work())
    await library.catalog.assets.delete(other, [deleted.asset_id])
    made = await backup(library)
    mine = library.work(filters=make_filters(library.owner))
    await switch_move(mine)
    await library.age()
    await clean_up_move(mine)
    assert photos(library.at_target()) == [5000]

    again = await restored(library, made)

    await roll_back_move(again.work())
    await again.sweep()
    assert photos(again.at_target()) == [5000]
    assert await again.sha256(again.work().route.target_path(kept.path)) == kept.sha256
