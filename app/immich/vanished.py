"""Finds assets that Immich has no more. They go to the trash, and never further. Immich deletes their files, so that they have no checksum any
more, by which an upload of the same bytes would be a duplicate, unless there is a copy of the original."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from app.catalog.catalog import Catalog
from app.immich.errors import ImportRefused
from app.immich.source.reader import SourceReader

PAGE_IDS = 1000
FEW = 20
"""So many may vanish at once, whatever part of all assets they are."""


async def trash_vanished(catalog: Catalog, reader: SourceReader, *, accept: bool = False) -> int:
    """Returns how many went to the trash. Raises `ImportRefused` where it would be more than half of all assets, as with the database of
    another installation, unless `accept` is set. Those that went there before do not count."""
    total = vanished = 0
    without_bytes: list[UUID] = []
    async for page, gone in _compare(catalog, reader):
        shown = len(await catalog.vanished_assets.list_shown(gone)) if gone else 0
        total += len(page) - len(gone) + shown
        vanished += shown
        without_bytes += await catalog.vanished_assets.list_without_bytes(gone) if gone else []
    if vanished > max(FEW, total / 2) and not accept:
        raise ImportRefused(
            f"Immich has no row of {vanished} of {total} assets that were taken over: is it the database of another installation? "
            "If they were deleted, `mediavault immich import --accept-vanished` moves them to the trash"
        )
    trashed = 0
    if vanished:
        async for _, gone in _compare(catalog, reader):
            if gone:
                trashed += await catalog.vanished_assets.trash(gone)
    await catalog.vanished_assets.give_up_checksums(without_bytes)
    return trashed


async def trash_deleted(catalog: Catalog, reader: SourceReader, since: datetime, *, accept: bool = False) -> int:
    """As `trash_vanished`, of those that Immich has deleted at `since` or later. Where these are more than `FEW`, or a user or a library is
    gone, whose assets Immich does not record, all are compared."""
    if await _is_owner_gone(catalog, reader):
        return await trash_vanished(catalog, reader, accept=accept)
    gone: list[UUID] = []
    without_bytes: list[UUID] = []
    async for page in reader.iterate_deleted_ids(since):
        gone += await catalog.vanished_assets.list_shown(page)
        without_bytes += await catalog.vanished_assets.list_without_bytes(page)
        if len(gone) > FEW:
            return await trash_vanished(catalog, reader, accept=accept)
    trashed = await catalog.vanished_assets.trash(gone) if gone else 0
    await catalog.vanished_assets.give_up_checksums(without_bytes)
    return trashed


async def _is_owner_gone(catalog: Catalog, reader: SourceReader) -> bool:
    """Whether assets are shown whose user or library has no row any more: the database has deleted theirs with it."""
    users = await catalog.imported_accounts.list_user_ids() - {user.id for user in await reader.list_users()}
    libraries = await catalog.imported_libraries.list_ids() - {each.id for each in await reader.list_libraries()}
    if not users and not libraries:
        return False
    return await catalog.vanished_assets.has_shown_of(users, libraries)


async def _compare(catalog: Catalog, reader: SourceReader) -> AsyncIterator[tuple[list[UUID], list[UUID]]]:
    """Pages of assets that were taken over, each with those that Immich has no more."""
    after = UUID(int=0)
    while page := await catalog.vanished_assets.get_page(after, PAGE_IDS):
        there = await reader.list_ids("asset", after, page[-1])
        yield page, [asset_id for asset_id in page if asset_id not in there]
        after = page[-1]
