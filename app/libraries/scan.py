"""One scan of a library: walks its folders in a thread, a batch at a time, and writes what changed, a transaction for each batch.

Memory does not grow with the files: of what was seen the ids of the folders are kept, those of files that were not found (see `missing`), and
the names of folders that are listed once more at the end. These hold files under the name of another one: only when all the rest was seen is it
clear whether that one was changed or went elsewhere. Of a scan of some folders the rest is not seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.library_records import (
    Changes,
    KnownFile,
    KnownFolder,
    Library,
    LibraryState,
    ScanReport,
)
from app.libraries import guard
from app.libraries.apart import Place
from app.libraries.arrivals import Arrival, Open, placed, settle
from app.libraries.compare import compare, digest, find_renamed, identity
from app.libraries.exclusions import Exclusions
from app.libraries.missing import Missing
from app.libraries.sight import RootSight, look
from app.libraries.walk import Listing, Scope, Walk, is_at

BATCH_FILES = 2000
BATCH_FOLDERS = 200
NAMED_UNREADABLE = 100

T = TypeVar("T")
Progress = Callable[[ScanReport], None]


class Scan:
    """A single pass over a library; `run` once."""

    def __init__(
        self,
        catalog: Catalog,
        library: Library,
        threads: Executor,
        *,
        accept_missing: bool = False,
        scopes: Sequence[Scope] | None = None,
        rest_before: float | None = None,
        progress: Progress | None = None,
        added: Callable[[UUID], None] | None = None,
        own: Collection[Place] = (),
    ) -> None:
        """`accept_missing`: a person says that what is missing was deleted. `scopes`: look at these folders only (see `Walk`, also for
        `rest_before`), not at the whole library. `added` is told of each asset that is to be processed. `own` are mediavault's folders, of which nothing is taken in."""
        self._catalog = catalog
        self._library = library
        self._threads = threads
        self._accept_missing = accept_missing
        self._scopes = scopes
        self._rest_before = rest_before
        self._progress = progress
        self._added = added
        self._own = own
        self._exclusions = Exclusions(library.exclusion_patterns)
        self._missing = Missing(catalog, library, threads, self._exclusions, self._why_away)
        self._started = time.monotonic()
        refused = [f"the exclusion pattern {pattern!r} {fault}" for pattern, fault in self._exclusions.refused.items()]
        self.report = ScanReport(
            started_at=datetime.now(UTC), unreadable_count=len(refused), unreadable=tuple(refused[:NAMED_UNREADABLE])
        )
        self.unsettled: set[str] = set()
        """Folders with files that are still being written: to be looked at again."""
        self._seen: set[UUID] = set()
        self._seen_paths: set[str] = set()
        self._open: set[str] = set()
        """Folders to be listed once more at the end."""
        self._torn: set[str] = set()
        """Folders that come in parts, in which a file may have lost its name."""
        self._walks: list[Walk] = []
        self._listed: dict[str, int] = {}

    async def run(self) -> ScanReport:
        """Raises `CatalogError`; among these `LibraryChanged`, soon after other files were made to belong to the library than those that
        the scan looks for. What was written before a failure or a cancellation stays, and the next scan goes on from there."""
        roots = await self._look()
        reason = None if self._accept_missing else reason_of(roots)
        # A first scan has nothing to recognise by its inode.
        known = bool(await self._catalog.library_files.count_all(self._library.id))
        usable = [root.path for root in roots if root.error is None and (self._accept_missing or not root.lost)]
        for root in usable:
            await self._walk(root, self._scopes_of(root), compare_inodes=known)
        for root in usable:
            again = [
                (folder, False) for folder in sorted(self._open) if folder == root or folder.startswith(root + "/")
            ]
            await self._walk(root, again, compare_inodes=known, all_seen=True)
        if known and reason is None and not self._only_a_part_of_what_is_away:
            await self._find_missing_folders()
            reason = await self._missing.trash(self._walks, accept_all=self._accept_missing)
            self.report = replace(self.report, trashed=self._missing.trashed)
        await self._conclude(roots, reason)
        return self.report

    @property
    def _only_a_part_of_what_is_away(self) -> bool:
        """Whether the files of a library that counts as unmounted are gone is told by a look at all of it, not folder by folder."""
        away = self._library.state is LibraryState.UNMOUNTED
        return away and self._scopes is not None and not self._accept_missing

    async def _walk(self, root: str, scopes: Sequence[Scope], *, compare_inodes: bool, all_seen: bool = False) -> None:
        if not scopes:
            return
        walk = await self._in_thread(
            lambda: Walk(root, self._exclusions, scopes, rest_before=self._rest_before, own=self._own)
        )
        self._walks.append(walk)
        batches = walk.batches(BATCH_FILES, BATCH_FOLDERS)
        while (batch := await self._in_thread(lambda: next(batches, None))) is not None:
            await self._catalog.libraries.require_unchanged(self._library)
            await self._take(batch, compare_inodes=compare_inodes, all_seen=all_seen)
            if self._progress is not None:
                self._progress(self.report)
        self.unsettled |= walk.unsettled
        if all_seen:
            return
        self._report_troubles(walk.troubles.count, walk.troubles.places.items())

    def _report_troubles(self, count: int, named: Iterable[tuple[str, str]]) -> None:
        texts = [_printable(f"{path}: {reason}") for path, reason in named]
        self.report = replace(
            self.report,
            unreadable_count=self.report.unreadable_count + count,
            unreadable=(*self.report.unreadable, *texts)[:NAMED_UNREADABLE],
        )

    def _scopes_of(self, root: str) -> list[Scope]:
        if self._scopes is None:
            return [(root, True)]
        return [scope for scope in self._scopes if scope[0] == root or scope[0].startswith(root + "/")]

    async def _take(self, batch: Sequence[Listing], *, compare_inodes: bool, all_seen: bool) -> None:
        """Compare a batch of listings with what is known, and write what changed. `all_seen`: everything else was looked at before, and files
        that are missing here were noted."""
        digests = await self._in_thread(lambda: [digest(listing.files) for listing in batch])
        folders = await self._catalog.library_files.folders(self._library.id, {listing.folder for listing in batch})
        changes = Changes()
        arrivals: list[Arrival] = []
        gone: set[UUID] = set()
        absent: set[UUID] = set()
        known = await self._known(batch, digests, folders)
        for listing, now, before in zip(batch, digests, known, strict=True):
            folder = folders.get(listing.folder)
            self._note_seen(listing, folder)
            if folder is not None and not listing.part and listing.whole and folder.digest == now:
                continue
            compared = compare(listing.files, before)
            arrivals += [Arrival(listing.folder, found) for found in compared.new]
            arrivals += [Arrival(listing.folder, found, former) for former, found in compared.replaced]
            absent |= {former.asset_id for former, _ in compared.replaced}
            changes.changed += [(asset_id, placed(listing.folder, found)) for asset_id, found in compared.changed]
            changes.refreshed += compared.refreshed
            changes.back += compared.back
            if not listing.part:
                gone.update(compared.gone)
                if listing.whole:
                    absent.update(compared.gone)
                settled = listing.whole and not compared.gone
                changes.digests[listing.folder] = now if settled else None
        renamed = await self._find_renamed(arrivals, absent) if compare_inodes else {}
        left = settle(arrivals, renamed, changes, all_seen=all_seen)
        for folder in (*left.folders, *left.displaced.values()):
            if folder in changes.digests:
                changes.digests[folder] = None
        await self._write(changes, 0 if all_seen else sum(len(listing.files) for listing in batch))
        if not all_seen:
            self._report_troubles(len(changes.held), [(path, f"belongs to {holder}") for path, holder in changes.held])
            self._open |= left.folders
            kept = {asset_id for asset_id, _ in changes.renamed}
            await self._note_missing(batch, gone - kept, left)

    async def _known(
        self, batch: Sequence[Listing], digests: Sequence[bytes], folders: dict[str, KnownFolder]
    ) -> list[list[KnownFile]]:
        """For each listing what is known of its files, if they are to be compared."""
        files = self._catalog.library_files
        known: list[list[KnownFile]] = [[] for _ in batch]
        places: dict[UUID, int] = {}
        for place, (listing, now) in enumerate(zip(batch, digests, strict=True)):
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if listing.part:
                known[place] = await files.named(folder.id, [found[0] for found in listing.files])
            elif folder.digest != now or not listing.whole:
                places[folder.id] = place
        for file in await files.in_folders(places):
            known[places[file.folder_id]].append(file)
        return known

    def _note_seen(self, listing: Listing, folder: KnownFolder | None) -> None:
        if folder is not None:
            self._seen.add(folder.id)
        if self._scopes is not None:
            self._seen_paths.add(listing.folder)

    async def _find_renamed(self, arrivals: Sequence[Arrival], absent: set[UUID]) -> dict[int, KnownFile]:
        """Which of the arrivals are files that are known, by place. Of the `absent` it was just seen that they are not where they were."""
        if not arrivals:
            return {}
        inodes = {arrival.found[2] for arrival in arrivals}
        wanted = {arrival.found[1:] for arrival in arrivals}
        known = await self._catalog.library_files.with_inodes(self._library.id, inodes)
        same = [(file, path) for file, path in known if identity(file) in wanted]
        gone = await self._in_thread(
            lambda: [file for file, path in same if file.asset_id in absent or not is_at(path, file.device, file.inode)]
        )
        return find_renamed([arrival.found for arrival in arrivals], gone)

    async def _note_missing(self, batch: Sequence[Listing], gone: set[UUID], left: Open) -> None:
        """Of a folder that came in parts the files are counted; only if some are missing each of them is looked at."""
        parts = {listing.folder for listing in batch if listing.part}
        self._missing.note(gone)
        self._missing.note(asset_id for asset_id, folder in left.displaced.items() if folder not in parts)
        self._torn |= parts & {*left.folders, *left.displaced.values()}
        for listing in batch:
            if not listing.part:
                continue
            self._listed[listing.folder] = self._listed.get(listing.folder, 0) + len(listing.files)
            if not listing.last:
                continue
            listed = self._listed.pop(listing.folder)
            folders = await self._catalog.library_files.folders(self._library.id, [listing.folder])
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if listing.folder in self._torn or await self._catalog.library_files.count_in(folder.id) > listed:
                await self._suspect(folder.id)

    async def _suspect(self, folder_id: UUID) -> None:
        after = ""
        while page := await self._catalog.library_files.page(folder_id, after):
            self._missing.note(file.asset_id for file in page)
            after = page[-1].name

    async def _write(self, changes: Changes, found: int) -> None:
        anything = (changes.new, changes.changed, changes.renamed, changes.back, changes.refreshed, changes.digests)
        if any(anything):
            ids = await self._catalog.library_files.apply(self._library, changes)
            self._seen.update(ids.values())
            if self._added is not None:
                for asset_id in changes.to_process:
                    self._added(asset_id)
        report = self.report
        self.report = replace(
            report,
            found=report.found + found,
            new=report.new + len(changes.new),
            changed=report.changed + len(changes.changed),
            renamed=report.renamed + len(changes.renamed),
            back=report.back + len(changes.back),
        )

    async def _find_missing_folders(self) -> None:
        """All files of folders that were not come across are missing."""
        below = None
        if self._scopes is not None:
            below = [path for path, deep in self._scopes if deep or path not in self._seen_paths]
            if not below:
                return
        empty: list[UUID] = []
        async for folders in self._catalog.library_files.all_folders(self._library.id, below):
            unseen = [folder.id for folder in folders if folder.id not in self._seen]
            for folder_id in unseen:
                await self._suspect(folder_id)
            empty += unseen
        if empty and self._scopes is None:
            await self._catalog.library_files.forget_empty(self._library.id, empty)

    async def _why_away(self) -> str | None:
        return reason_of(await self._look())

    async def _look(self) -> list[RootSight]:
        return await look_at(self._catalog, self._library, self._threads, self._own)

    async def _conclude(self, roots: Sequence[RootSight], refused: str | None) -> None:
        """Note what the scan has seen, and whether the library's folders are there."""
        whole = self._scopes is None and refused is None
        complete = whole and not self.unsettled
        seconds = round(time.monotonic() - self._started, 3)
        self.report = replace(self.report, refused=refused, complete=complete, seconds=seconds)
        library_id = self._library.id
        if self._scopes is None:
            mounts = sorted({mount for root in roots for mount in root.mounts})
            # Mount points count from the first look on: a disk may go before all files on it have come to rest.
            await self._catalog.libraries.note_scan(self._library, self.report, tuple(mounts) if whole else None)
        # What a person accepted is no reason any more, but a path that can not be read stays one.
        reason = refused or reason_of([replace(root, lost=()) for root in roots])
        if reason is not None:
            await self._catalog.libraries.set_state(library_id, LibraryState.UNMOUNTED, reason)
        elif whole:
            await self._catalog.libraries.set_state(library_id, LibraryState.OK, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def look_at(
    catalog: Catalog, library: Library, threads: Executor, own: Collection[Place] = ()
) -> list[RootSight]:
    """What is to be seen of each import path; of one that lies in an `own` folder that it can not be used. A mount point that is gone counts only where files are known below it."""
    seen: list[RootSight] = []
    for root in await asyncio.get_running_loop().run_in_executor(threads, look, library, own):
        known = [pair for pair in root.lost if await catalog.library_files.count_below(library.id, pair[1])]
        seen.append(replace(root, lost=tuple(known)))
    return seen


def reason_of(roots: Sequence[RootSight]) -> str | None:
    """Why the library counts as unmounted by what is seen of its roots; None when all is there."""
    mounts = dict.fromkeys(place for root in roots if root.error is None for place, _ in root.lost)
    return guard.Sight(tuple(root.error for root in roots if root.error), tuple(mounts)).reason


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
