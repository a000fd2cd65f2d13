"""`mediavault immich import` and `follow`: takes over what an installation of Immich holds, and what changes in it.

A run can be interrupted at any moment and started again: each page of assets is one transaction, which also stores how far the run has
come. Nothing of Immich's is changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.imports.asset_changes import BatchChanges
from app.catalog.schema.import_records import ImportedAsset, ImportPhase, ImportSource
from app.immich.accounts import AccountImport
from app.immich.asset_pages import AssetPage, AssetPages
from app.immich.errors import AnotherRun, ImportRefused
from app.immich.markers import record_media_location
from app.immich.media_roots import MediaRoots
from app.immich.plan import Progress, find_refusals
from app.immich.problems import ProblemKind, ProblemLog
from app.immich.sessions import import_sessions
from app.immich.source.reader import PAGE_ROWS, SourceReader
from app.immich.vanished import trash_deleted, trash_vanished

LOCK = "immich-import"
SOURCE_NAME = "immich"
MOST_SETTLED = 5_000
"""Assets that are written beside a page, at most, so that memory is bounded."""
FOLLOW_OVERLAP = timedelta(minutes=15)
"""A row carries the time at which its transaction began, and is seen when that ends: rows so much older are read again."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`users`: email addresses; None: all users. `accept_moves`: of moves that Immich has not finished, take whichever path holds the file.
    `accept_vanished`: however many assets Immich has no more, they go to the trash; of users likewise, accounts are closed.
    `accept_sessions`: logins at Immich hold here, too."""

    users: tuple[str, ...] | None = None
    dry_run: bool = False
    accept_moves: bool = False
    accept_vanished: bool = False
    accept_sessions: bool = False


@dataclass(slots=True)
class ImportReport:
    """Counts of rows. `skipped`: assets that could not be taken over; `trashed`: those that Immich has no more."""

    users: int = 0
    api_keys: int = 0
    libraries: int = 0
    persons: int = 0
    sessions: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    trashed: int = 0
    problems: ProblemLog = field(default_factory=ProblemLog)

    def to_json(self) -> dict[str, object]:
        names = (
            "users", "api_keys", "libraries", "persons", "sessions", "new", "changed", "unchanged", "skipped", "trashed",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "problems": self.problems.to_json()}


class ImmichImport:
    """One run. Its methods raise `ImmichError` and `CatalogError`."""

    def __init__(
        self,
        catalog: Catalog,
        reader: SourceReader,
        roots: MediaRoots,
        options: ImportOptions,
        progress: Progress,
        *,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._roots = roots
        self._options = options
        self._progress = progress
        self._page_rows = page_rows
        self._pages = AssetPages(reader, roots, rows=page_rows)
        self._owners: list[UUID] = []
        self._libraries: set[UUID] = set()
        self.report = ImportReport()

    async def import_all(self) -> ImportReport:
        """Take over everything, or go on with an interrupted run; what was taken over before is compared."""
        async with self._hold_lock():
            await self._check()
            source = await self._begin()
            await self._import_accounts()
            if source.phase is not ImportPhase.VANISHED:
                await self._import_assets(source.after_id)
                if not self._options.dry_run:
                    await self._catalog.import_sources.enter_phase(SOURCE_NAME, ImportPhase.VANISHED)
            if not self._options.dry_run:
                await self._link_videos()
                await self._trash_vanished()
                await self._catalog.import_sources.finish(SOURCE_NAME, source.begun_at)
        return self.report

    async def follow(self, *, compare_after: timedelta) -> ImportReport:
        """Take over what Immich has changed since the last run, and read no more than that. Everything is compared if the last time is
        `compare_after` ago, or an import was interrupted. Raises `ImportRefused` before the first import."""
        source = await self._catalog.import_sources.get(SOURCE_NAME)
        if source is None:
            raise ImportRefused("nothing was imported yet: run `mediavault immich import` first")
        self._options = replace(self._options, users=source.users)
        moment = await self._reader.read_time()
        if source.followed_to is None or source.compared_at is None or moment - source.compared_at >= compare_after:
            return await self.import_all()
        async with self._hold_lock():
            await self._check()
            since = source.followed_to - FOLLOW_OVERLAP
            await self._import_accounts(since)
            await self._import_changes(since)
            await self._trash_vanished(since)
            await self._catalog.import_sources.follow_to(SOURCE_NAME, moment)
        return self.report

    @asynccontextmanager
    async def _hold_lock(self) -> AsyncIterator[None]:
        async with self._catalog.try_lock(LOCK) as lock:
            if lock is None:
                raise AnotherRun("another `mediavault immich import` or `follow` is running")
            yield

    async def _check(self) -> None:
        for refusal in await find_refusals(self._reader, self._roots, accept_moves=self._options.accept_moves):
            raise refusal
        if not self._options.dry_run:
            for root in self._roots.host_paths:
                await self._catalog.foreign_files.add_root(root)
            await record_media_location(self._catalog, await self._reader.read_media_location())

    async def _begin(self) -> ImportSource:
        """The interrupted run, if it looked at the same folders and users; else a new one."""
        roots = tuple(f"{root.container}={root.host}" for root in self._roots.roots)
        former = await self._catalog.import_sources.get(SOURCE_NAME)
        same = former is not None and (former.media_roots, former.users) == (roots, self._options.users)
        if former is not None and same and former.phase is not ImportPhase.DONE:
            return former
        moment = await self._reader.read_time()
        source = ImportSource(SOURCE_NAME, roots, self._options.users, ImportPhase.ASSETS, None, moment, None, None)
        if not self._options.dry_run:
            await self._catalog.import_sources.begin(source)
        return source

    async def _import_accounts(self, since: datetime | None = None) -> None:
        accounts = AccountImport(self._catalog, self._reader, self._roots, self.report.problems)
        is_dry = self._options.dry_run
        self._owners = await accounts.import_users(
            self._options.users, dry_run=is_dry, accept_vanished=self._options.accept_vanished
        )
        self._libraries = await accounts.import_libraries(self._owners, dry_run=is_dry)
        self.report.users, self.report.libraries = len(self._owners), len(self._libraries)
        self.report.api_keys = await accounts.import_keys(self._owners, dry_run=is_dry)
        self.report.persons = await accounts.import_persons(self._owners, since, dry_run=is_dry)
        if not is_dry:
            self.report.sessions = await import_sessions(
                self._catalog, self._reader, self._owners, self.report.problems, accept=self._options.accept_sessions
            )

    async def _import_assets(self, after: UUID | None) -> None:
        self._progress.begin("assets", await self._reader.count_assets(self._owners))
        async for page in self._pages.iterate(after=after, owners=self._owners):
            await self._apply(page, self._collect(page), progress=(SOURCE_NAME, page.last_id))

    async def _import_changes(self, since: datetime) -> None:
        self._progress.begin("changed assets", None)
        owners = set(self._owners)
        async for ids in self._reader.iterate_changed_ids(since):
            rows = [asset for asset in await self._reader.get_assets(ids) if asset.owner_id in owners]
            if rows:
                page = await self._pages.translate(rows)
                await self._apply(page, self._collect(page))
                await self._catalog.imported_assets.link_videos(_list_links(page))

    def _collect(self, page: AssetPage) -> list[ImportedAsset]:
        """The assets of the page that can be taken over; the others, and what is wrong, are counted."""
        batch: list[ImportedAsset] = []
        for asset, translated in page.assets:
            if asset.library_id is not None and asset.library_id not in self._libraries:
                translated.refuse(ProblemKind.REMOVED_LIBRARY, f"{asset.id} {asset.original_path}")
            for kind, example in translated.problems:
                if kind is not ProblemKind.PATH_CHECKSUM:  # usual in libraries: the content is hashed in the background
                    self.report.problems.add(kind, example)
            if translated.asset is None:
                self.report.skipped += 1
            else:
                batch.append(translated.asset)
        return batch

    async def _apply(
        self, page: AssetPage, batch: list[ImportedAsset], *, progress: tuple[str, UUID] | None = None
    ) -> None:
        assets = self._catalog.imported_assets
        is_dry = self._options.dry_run
        changes = None if is_dry else await assets.apply_undisputed(batch, progress=progress)
        if changes is None:
            wanted = [*batch, *await self._settle_holders(batch)]
            changes = await (assets.compare(wanted) if is_dry else assets.apply(wanted, progress=progress))
        self._count(changes, batch)
        self._progress.advance(len(page.assets))

    async def _settle_holders(self, batch: Sequence[ImportedAsset]) -> list[ImportedAsset]:
        """Assets whose paths or checksums those of the batch have now, and those whose paths or checksums these have, and so on: assets
        exchange them in circles. Returns those that Immich still has, to be moved in the same transaction, and releases those that it has
        no more. Of a circle with more than `MOST_SETTLED` assets the rest is left out, and reported as conflicts."""
        settled: list[ImportedAsset] = []
        seen = {asset.id for asset in batch}
        moving: Sequence[ImportedAsset] = batch
        while moving and len(settled) < MOST_SETTLED:
            holders = await self._catalog.imported_assets.find_holders(moving) - seen
            seen |= holders
            rows = await self._reader.get_assets(holders) if holders else []
            await self._release_vanished(holders - {row.id for row in rows})
            page = await self._pages.translate([row for row in rows if row.owner_id in set(self._owners)])
            moving = [translated.asset for _, translated in page.assets if translated.asset is not None]
            settled += moving
        return settled

    async def _release_vanished(self, holders: set[UUID]) -> None:
        if holders and not self._options.dry_run:
            self.report.trashed += await self._catalog.vanished_assets.trash(holders)
            await self._catalog.vanished_assets.release(holders)

    def _count(self, changes: BatchChanges, batch: Sequence[ImportedAsset]) -> None:
        """Assets that were only looked at beside the batch are counted in their own page."""
        self.report.new += len(changes.new_assets)
        self.report.changed += len(changes.changed_assets)
        self.report.unchanged += sum(asset.id in changes.unchanged for asset in batch)
        for path in changes.path_conflicts:
            self.report.problems.add(ProblemKind.SHARED_PATH, path)
        for asset_id in changes.checksum_conflicts:
            self.report.problems.add(ProblemKind.CHECKSUM_CONFLICT, asset_id)
        self.report.skipped += len(changes.refused)

    async def _link_videos(self) -> None:
        """Photos whose videos came later."""
        async for links in self._reader.iterate_live_photos(self._owners, rows=self._page_rows):
            await self._catalog.imported_assets.link_videos(links)

    async def _trash_vanished(self, since: datetime | None = None) -> None:
        """`since`: only what was deleted then or later, if Immich records that."""
        self._progress.begin("assets that Immich has no more", None)
        accept = self._options.accept_vanished
        if since is not None and self._reader.records_deletions:
            self.report.trashed += await trash_deleted(self._catalog, self._reader, since, accept=accept)
        else:
            self.report.trashed += await trash_vanished(self._catalog, self._reader, accept=accept)


def _list_links(page: AssetPage) -> dict[UUID, UUID]:
    return {
        translated.asset.id: translated.asset.live_photo_video_id
        for _, translated in page.assets
        if translated.asset is not None and translated.asset.live_photo_video_id is not None
    }
