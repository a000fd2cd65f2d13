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
from app.catalog.schema.library_records import KnownFile, KnownFolder, Library, LibraryState, ScanChanges, ScanReport
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.import_paths.probe import ImportPathStatus, probe_import_paths
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning import offline_guard
from app.libraries.scanning.diff import diff_folder, digest_files, find_renamed, identify_file
from app.libraries.scanning.missing_files import MissingFiles
from app.libraries.scanning.renames import UnmatchedFile, UnresolvedFiles, build_scanned_file, resolve_renames
from app.libraries.scanning.walk import FolderListing, FolderWalk, ScanScope, is_file_at

BATCH_FILES = 2000
BATCH_FOLDERS = 200
MAX_REPORTED_UNREADABLE = 100

T = TypeVar("T")
OnScanProgress = Callable[[ScanReport], None]


class LibraryScan:
    """A single pass over a library; `run` once."""

    def __init__(
        self,
        catalog: Catalog,
        library: Library,
        threads: Executor,
        *,
        accept_missing: bool = False,
        scopes: Sequence[ScanScope] | None = None,
        settled_before: float | None = None,
        on_progress: OnScanProgress | None = None,
        on_asset_added: Callable[[UUID], None] | None = None,
        reserved_folders: Collection[ReservedFolder] = (),
    ) -> None:
        """`accept_missing`: a person says that what is missing was deleted. `scopes`: look at these folders only (see `FolderWalk`, also for
        `settled_before`), not at the whole library. `on_asset_added` is told of each asset that is to be processed. `reserved_folders` are mediavault's folders, of which nothing is taken in."""
        self._catalog = catalog
        self._library = library
        self._threads = threads
        self._accept_missing = accept_missing
        self._scopes = scopes
        self._settled_before = settled_before
        self._on_progress = on_progress
        self._on_asset_added = on_asset_added
        self._reserved_folders = reserved_folders
        self._exclusions = ExclusionRules(library.exclusion_patterns)
        self._missing = MissingFiles(catalog, library, threads, self._exclusions, self._find_offline_reason)
        self._started = time.monotonic()
        refused = [
            f"the exclusion pattern {pattern!r} {fault}" for pattern, fault in self._exclusions.invalid_patterns.items()
        ]
        self.report = ScanReport(
            started_at=datetime.now(UTC),
            unreadable_count=len(refused),
            unreadable=tuple(refused[:MAX_REPORTED_UNREADABLE]),
        )
        self.unsettled_folders: set[str] = set()
        """Folders with files that are still being written: to be looked at again."""
        self._seen: set[UUID] = set()
        self._seen_paths: set[str] = set()
        self._unresolved_folders: set[str] = set()
        """Folders to be listed once more at the end."""
        self._incomplete_folders: set[str] = set()
        """Folders that come in parts, in which a file may have lost its name."""
        self._walks: list[FolderWalk] = []
        self._listed: dict[str, int] = {}

    async def run(self) -> ScanReport:
        """Raises `CatalogError`; among these `LibraryChanged`, soon after other files were made to belong to the library than those that
        the scan looks for. What was written before a failure or a cancellation stays, and the next scan goes on from there."""
        roots = await self._probe_library()
        reason = None if self._accept_missing else find_offline_reason(roots)
        # A first scan has nothing to recognise by its inode.
        known = bool(await self._catalog.library_files.count_all(self._library.id))
        usable = [root.path for root in roots if root.error is None and (self._accept_missing or not root.lost_mounts)]
        for root in usable:
            await self._walk(root, self._select_scopes(root), compare_inodes=known)
        for root in usable:
            again = [
                (folder, False)
                for folder in sorted(self._unresolved_folders)
                if folder == root or folder.startswith(root + "/")
            ]
            await self._walk(root, again, compare_inodes=known, all_seen=True)
        if known and reason is None and not self._is_partial_scan_of_offline:
            await self._find_missing_folders()
            reason = await self._missing.trash(self._walks, accept_all=self._accept_missing)
            self.report = replace(self.report, trashed=self._missing.trashed_count)
        await self._record_result(roots, reason)
        return self.report

    @property
    def _is_partial_scan_of_offline(self) -> bool:
        """Whether the files of a library that counts as unmounted are gone is told by a look at all of it, not folder by folder."""
        away = self._library.state is LibraryState.UNMOUNTED
        return away and self._scopes is not None and not self._accept_missing

    async def _walk(
        self, root: str, scopes: Sequence[ScanScope], *, compare_inodes: bool, all_seen: bool = False
    ) -> None:
        if not scopes:
            return
        walk = await self._in_thread(
            lambda: FolderWalk(
                root,
                self._exclusions,
                scopes,
                settled_before=self._settled_before,
                reserved_folders=self._reserved_folders,
            )
        )
        self._walks.append(walk)
        batches = walk.iter_batches(BATCH_FILES, BATCH_FOLDERS)
        while (batch := await self._in_thread(lambda: next(batches, None))) is not None:
            await self._catalog.libraries.check_unchanged(self._library)
            await self._apply_batch(batch, compare_inodes=compare_inodes, all_seen=all_seen)
            if self._on_progress is not None:
                self._on_progress(self.report)
        self.unsettled_folders |= walk.unsettled_folders
        if all_seen:
            return
        self._report_unreadable(walk.unreadable.count, walk.unreadable.reasons.items())

    def _report_unreadable(self, count: int, named: Iterable[tuple[str, str]]) -> None:
        texts = [_escape_undecodable(f"{path}: {reason}") for path, reason in named]
        self.report = replace(
            self.report,
            unreadable_count=self.report.unreadable_count + count,
            unreadable=(*self.report.unreadable, *texts)[:MAX_REPORTED_UNREADABLE],
        )

    def _select_scopes(self, root: str) -> list[ScanScope]:
        if self._scopes is None:
            return [(root, True)]
        return [scope for scope in self._scopes if scope[0] == root or scope[0].startswith(root + "/")]

    async def _apply_batch(self, batch: Sequence[FolderListing], *, compare_inodes: bool, all_seen: bool) -> None:
        """Compare a batch of listings with what is known, and write what changed. `all_seen`: everything else was looked at before, and files
        that are missing here were noted."""
        digests = await self._in_thread(lambda: [digest_files(listing.files) for listing in batch])
        folders = await self._catalog.library_files.get_folders(self._library.id, {listing.folder for listing in batch})
        changes = ScanChanges()
        arrivals: list[UnmatchedFile] = []
        gone: set[UUID] = set()
        absent: set[UUID] = set()
        known = await self._load_known_files(batch, digests, folders)
        for listing, now, before in zip(batch, digests, known, strict=True):
            folder = folders.get(listing.folder)
            self._record_seen(listing, folder)
            if folder is not None and not listing.is_part and listing.is_complete and folder.digest == now:
                continue
            compared = diff_folder(listing.files, before)
            arrivals += [UnmatchedFile(listing.folder, found) for found in compared.new]
            arrivals += [UnmatchedFile(listing.folder, found, former) for former, found in compared.replaced]
            absent |= {former.asset_id for former, _ in compared.replaced}
            changes.changed += [
                (asset_id, build_scanned_file(listing.folder, found)) for asset_id, found in compared.changed
            ]
            changes.refreshed += compared.refreshed
            changes.returned += compared.returned
            if not listing.is_part:
                gone.update(compared.gone)
                if listing.is_complete:
                    absent.update(compared.gone)
                settled = listing.is_complete and not compared.gone
                changes.digests[listing.folder] = now if settled else None
        renamed = await self._find_renamed(arrivals, absent) if compare_inodes else {}
        left = resolve_renames(arrivals, renamed, changes, all_seen=all_seen)
        for folder in (*left.folders, *left.displaced.values()):
            if folder in changes.digests:
                changes.digests[folder] = None
        await self._write_changes(changes, 0 if all_seen else sum(len(listing.files) for listing in batch))
        if not all_seen:
            self._report_unreadable(
                len(changes.conflicts), [(path, f"belongs to {holder}") for path, holder in changes.conflicts]
            )
            self._unresolved_folders |= left.folders
            kept = {asset_id for asset_id, _ in changes.renamed}
            await self._record_missing(batch, gone - kept, left)

    async def _load_known_files(
        self, batch: Sequence[FolderListing], digests: Sequence[bytes], folders: dict[str, KnownFolder]
    ) -> list[list[KnownFile]]:
        """For each listing what is known of its files, if they are to be compared."""
        files = self._catalog.library_files
        known: list[list[KnownFile]] = [[] for _ in batch]
        places: dict[UUID, int] = {}
        for place, (listing, now) in enumerate(zip(batch, digests, strict=True)):
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if listing.is_part:
                known[place] = await files.get_files_by_name(folder.id, [found[0] for found in listing.files])
            elif folder.digest != now or not listing.is_complete:
                places[folder.id] = place
        for file in await files.get_files_in_folders(places):
            known[places[file.folder_id]].append(file)
        return known

    def _record_seen(self, listing: FolderListing, folder: KnownFolder | None) -> None:
        if folder is not None:
            self._seen.add(folder.id)
        if self._scopes is not None:
            self._seen_paths.add(listing.folder)

    async def _find_renamed(self, arrivals: Sequence[UnmatchedFile], absent: set[UUID]) -> dict[int, KnownFile]:
        """Which of the arrivals are files that are known, by place. Of the `absent` it was just seen that they are not where they were."""
        if not arrivals:
            return {}
        inodes = {arrival.listed[2] for arrival in arrivals}
        wanted = {arrival.listed[1:] for arrival in arrivals}
        known = await self._catalog.library_files.find_by_inodes(self._library.id, inodes)
        same = [(file, path) for file, path in known if identify_file(file) in wanted]
        gone = await self._in_thread(
            lambda: [
                file for file, path in same if file.asset_id in absent or not is_file_at(path, file.device, file.inode)
            ]
        )
        return find_renamed([arrival.listed for arrival in arrivals], gone)

    async def _record_missing(self, batch: Sequence[FolderListing], gone: set[UUID], left: UnresolvedFiles) -> None:
        """Of a folder that came in parts the files are counted; only if some are missing each of them is looked at."""
        parts = {listing.folder for listing in batch if listing.is_part}
        self._missing.add(gone)
        self._missing.add(asset_id for asset_id, folder in left.displaced.items() if folder not in parts)
        self._incomplete_folders |= parts & {*left.folders, *left.displaced.values()}
        for listing in batch:
            if not listing.is_part:
                continue
            self._listed[listing.folder] = self._listed.get(listing.folder, 0) + len(listing.files)
            if not listing.is_last_part:
                continue
            listed = self._listed.pop(listing.folder)
            folders = await self._catalog.library_files.get_folders(self._library.id, [listing.folder])
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if (
                listing.folder in self._incomplete_folders
                or await self._catalog.library_files.count_in_folder(folder.id) > listed
            ):
                await self._add_folder_as_missing(folder.id)

    async def _add_folder_as_missing(self, folder_id: UUID) -> None:
        after = ""
        while page := await self._catalog.library_files.get_page(folder_id, after):
            self._missing.add(file.asset_id for file in page)
            after = page[-1].name

    async def _write_changes(self, changes: ScanChanges, found: int) -> None:
        anything = (changes.new, changes.changed, changes.renamed, changes.returned, changes.refreshed, changes.digests)
        if any(anything):
            ids = await self._catalog.library_files.apply_changes(self._library, changes)
            self._seen.update(ids.values())
            if self._on_asset_added is not None:
                for asset_id in changes.to_process:
                    self._on_asset_added(asset_id)
        report = self.report
        self.report = replace(
            report,
            found=report.found + found,
            new=report.new + len(changes.new),
            changed=report.changed + len(changes.changed),
            renamed=report.renamed + len(changes.renamed),
            back=report.back + len(changes.returned),
        )

    async def _find_missing_folders(self) -> None:
        """All files of folders that were not come across are missing."""
        below = None
        if self._scopes is not None:
            below = [path for path, deep in self._scopes if deep or path not in self._seen_paths]
            if not below:
                return
        empty: list[UUID] = []
        async for folders in self._catalog.library_files.iterate_folders(self._library.id, below):
            unseen = [folder.id for folder in folders if folder.id not in self._seen]
            for folder_id in unseen:
                await self._add_folder_as_missing(folder_id)
            empty += unseen
        if empty and self._scopes is None:
            await self._catalog.library_files.delete_empty_folders(self._library.id, empty)

    async def _find_offline_reason(self) -> str | None:
        return find_offline_reason(await self._probe_library())

    async def _probe_library(self) -> list[ImportPathStatus]:
        return await probe_library(self._catalog, self._library, self._threads, self._reserved_folders)

    async def _record_result(self, roots: Sequence[ImportPathStatus], refused: str | None) -> None:
        """Note what the scan has seen, and whether the library's folders are there."""
        whole = self._scopes is None and refused is None
        complete = whole and not self.unsettled_folders
        seconds = round(time.monotonic() - self._started, 3)
        self.report = replace(self.report, refused=refused, complete=complete, seconds=seconds)
        library_id = self._library.id
        if self._scopes is None:
            mounts = sorted({mount for root in roots for mount in root.mounts})
            # Mount points count from the first look on: a disk may go before all files on it have come to rest.
            await self._catalog.libraries.store_scan_report(
                self._library, self.report, tuple(mounts) if whole else None
            )
        # What a person accepted is no reason any more, but a path that can not be read stays one.
        reason = refused or find_offline_reason([replace(root, lost_mounts=()) for root in roots])
        if reason is not None:
            await self._catalog.libraries.set_state(library_id, LibraryState.UNMOUNTED, reason)
        elif whole:
            await self._catalog.libraries.set_state(library_id, LibraryState.OK, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def probe_library(
    catalog: Catalog, library: Library, threads: Executor, reserved_folders: Collection[ReservedFolder] = ()
) -> list[ImportPathStatus]:
    """What is to be seen of each import path; of one that lies in an `reserved_folders` folder that it can not be used. A mount point that is gone counts only where files are known below it."""
    seen: list[ImportPathStatus] = []
    for root in await asyncio.get_running_loop().run_in_executor(
        threads, probe_import_paths, library, reserved_folders
    ):
        known = [pair for pair in root.lost_mounts if await catalog.library_files.count_below(library.id, pair[1])]
        seen.append(replace(root, lost_mounts=tuple(known)))
    return seen


def find_offline_reason(roots: Sequence[ImportPathStatus]) -> str | None:
    """Why the library counts as unmounted by what is seen of its roots; None when all is there."""
    mounts = dict.fromkeys(place for root in roots if root.error is None for place, _ in root.lost_mounts)
    return offline_guard.LibraryAvailability(
        tuple(root.error for root in roots if root.error), tuple(mounts)
    ).offline_reason


def _escape_undecodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
