"""One scan of a library: walks its folders in a thread, compares them with the catalogue, and writes the changes, a transaction per batch.

Memory does not grow with the number of files. A scan keeps the ids of folders that it saw, the ids of missing files (see `missing_files`), and
the paths of unresolved folders, which it lists again at the end. An unresolved folder holds a file under the name of another one: whether that
one was changed or renamed is known only after all other folders were listed. A scan of some folders (`scopes`) sees only those.
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
from app.libraries.scanning.content_detection import detect_contents
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
    """A single scan; call `run` once."""

    def __init__(
        self,
        catalog: Catalog,
        library: Library,
        executor: Executor,
        *,
        accept_missing: bool = False,
        scopes: Sequence[ScanScope] | None = None,
        settled_before: float | None = None,
        on_progress: OnScanProgress | None = None,
        on_asset_added: Callable[[UUID], None] | None = None,
        reserved_folders: Collection[ReservedFolder] = (),
    ) -> None:
        """`executor` runs the blocking calls. `accept_missing`: an operator confirmed that missing files were deleted. `scopes`: scan these
        folders only, not the whole library. `settled_before`: see `FolderWalk`. `on_asset_added` is called with each asset that has a new task.
        `reserved_folders` are mediavault's folders, which are never indexed."""
        self._catalog = catalog
        self._library = library
        self._executor = executor
        self._accept_missing = accept_missing
        self._scopes = scopes
        self._settled_before = settled_before
        self._on_progress = on_progress
        self._on_asset_added = on_asset_added
        self._reserved_folders = reserved_folders
        self._exclusions = ExclusionRules(library.exclusion_patterns)
        self._missing = MissingFiles(catalog, library, executor, self._exclusions, self._find_offline_reason)
        self._started = time.monotonic()
        pattern_errors = [
            f"the exclusion pattern {pattern!r} {error}" for pattern, error in self._exclusions.invalid_patterns.items()
        ]
        self.report = ScanReport(
            started_at=datetime.now(UTC),
            unreadable_count=len(pattern_errors),
            unreadable=tuple(pattern_errors[:MAX_REPORTED_UNREADABLE]),
        )
        self.unsettled_folders: set[str] = set()
        """Folders with files that are still being written; the caller scans them again later."""
        self._seen: set[UUID] = set()
        self._seen_paths: set[str] = set()
        self._unresolved_folders: set[str] = set()
        """Folders to list again at the end."""
        self._incomplete_folders: set[str] = set()
        """Folders listed in parts in which a file may have been displaced (see `renames`)."""
        self._walks: list[FolderWalk] = []
        self._listed: dict[str, int] = {}

    async def run(self) -> ScanReport:
        """Raises `CatalogError`; among these `LibraryChanged`, soon after import paths or patterns of the library were changed. Batches that were
        written before a failure or a cancellation stay; the next scan skips folders that are unchanged since."""
        statuses = await self._probe_library()
        reason = None if self._accept_missing else find_offline_reason(statuses)
        # A first scan has no known files, so that comparing inodes is useless.
        has_known_files = bool(await self._catalog.library_files.count_all(self._library.id))
        usable_roots = [
            status.path
            for status in statuses
            if status.error is None and (self._accept_missing or not status.lost_mounts)
        ]
        for root in usable_roots:
            await self._walk(root, self._select_scopes(root), compare_inodes=has_known_files)
        for root in usable_roots:
            unresolved = [
                (folder, False)
                for folder in sorted(self._unresolved_folders)
                if folder == root or folder.startswith(root + "/")
            ]
            await self._walk(root, unresolved, compare_inodes=has_known_files, all_seen=True)
        if has_known_files and reason is None and not self._is_partial_scan_of_offline:
            await self._find_missing_folders()
            reason = await self._missing.trash(self._walks, accept_all=self._accept_missing)
            self.report = replace(self.report, trashed=self._missing.trashed_count)
        await self._record_result(statuses, reason)
        return self.report

    @property
    def _is_partial_scan_of_offline(self) -> bool:
        """True for a scan of some folders of a library that counts as unmounted. Only a full scan may decide that its files are gone."""
        is_offline = self._library.state is LibraryState.UNMOUNTED
        return is_offline and self._scopes is not None and not self._accept_missing

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

    def _report_unreadable(self, count: int, reasons: Iterable[tuple[str, str]]) -> None:
        texts = [_escape_undecodable(f"{path}: {reason}") for path, reason in reasons]
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
        """Compares a batch of listings with the catalogue and writes the changes. `all_seen`: all other folders were listed before, and missing
        files of these folders were recorded then."""
        digests = await self._in_thread(lambda: [digest_files(listing.files, listing.sidecars) for listing in batch])
        folders = await self._catalog.library_files.get_folders(self._library.id, {listing.folder for listing in batch})
        changes = ScanChanges()
        unmatched: list[UnmatchedFile] = []
        gone: set[UUID] = set()
        absent: set[UUID] = set()
        known_by_listing = await self._load_known_files(batch, digests, folders)
        for listing, digest, known_files in zip(batch, digests, known_by_listing, strict=True):
            folder = folders.get(listing.folder)
            self._record_seen(listing, folder)
            if folder is not None and not listing.is_part and listing.is_complete and folder.digest == digest:
                continue
            diff = diff_folder(listing.files, known_files, listing.sidecars, is_complete=listing.is_complete)
            unmatched += [
                UnmatchedFile(listing.folder, file, known, listing.sidecars.get(file[0]))
                for known, file in [*((None, file) for file in diff.new), *diff.replaced]
            ]
            absent |= {known.asset_id for known, _ in diff.replaced}
            changes.changed += [(asset_id, build_scanned_file(listing.folder, file)) for asset_id, file in diff.changed]
            changes.refreshed += diff.refreshed
            changes.sidecars += diff.sidecars
            changes.returned += diff.returned
            if not listing.is_part:
                gone.update(diff.gone)
                if listing.is_complete:
                    absent.update(diff.gone)
                settled = listing.is_complete and not diff.gone
                changes.digests[listing.folder] = digest if settled else None
        renamed = await self._find_renamed(unmatched, absent) if compare_inodes else {}
        unresolved = resolve_renames(unmatched, renamed, changes, all_seen=all_seen)
        for folder in (*unresolved.folders, *unresolved.displaced.values()):
            if folder in changes.digests:
                changes.digests[folder] = None
        await self._write_changes(changes, 0 if all_seen else sum(len(listing.files) for listing in batch))
        if not all_seen:
            self._report_unreadable(
                len(changes.conflicts), [(path, f"belongs to {holder}") for path, holder in changes.conflicts]
            )
            self._unresolved_folders |= unresolved.folders
            kept = {asset_id for asset_id, _ in changes.renamed}
            await self._record_missing(batch, gone - kept, unresolved)

    async def _load_known_files(
        self, batch: Sequence[FolderListing], digests: Sequence[bytes], folders: dict[str, KnownFolder]
    ) -> list[list[KnownFile]]:
        """The known files for each listing; empty for a listing that equals its stored digest, since it is not compared."""
        files = self._catalog.library_files
        known: list[list[KnownFile]] = [[] for _ in batch]
        index_by_folder: dict[UUID, int] = {}
        for index, (listing, digest) in enumerate(zip(batch, digests, strict=True)):
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if listing.is_part:
                known[index] = await files.get_files_by_name(folder.id, [file[0] for file in listing.files])
            elif folder.digest != digest or not listing.is_complete:
                index_by_folder[folder.id] = index
        for file in await files.get_files_in_folders(index_by_folder):
            known[index_by_folder[file.folder_id]].append(file)
        return known

    def _record_seen(self, listing: FolderListing, folder: KnownFolder | None) -> None:
        if folder is not None:
            self._seen.add(folder.id)
        if self._scopes is not None:
            self._seen_paths.add(listing.folder)

    async def _find_renamed(self, unmatched: Sequence[UnmatchedFile], absent: set[UUID]) -> dict[int, KnownFile]:
        """The known files that `unmatched` files are, by index. `absent`: known files of this batch that are not at their path; others are checked
        on disk."""
        if not unmatched:
            return {}
        inodes = {file.listed[2] for file in unmatched}
        identities = {file.listed[1:] for file in unmatched}
        known = await self._catalog.library_files.find_by_inodes(self._library.id, inodes)
        candidates = [(file, path) for file, path in known if identify_file(file) in identities]
        gone = await self._in_thread(
            lambda: [
                file
                for file, path in candidates
                if file.asset_id in absent or not is_file_at(path, file.device, file.inode)
            ]
        )
        return find_renamed([file.listed for file in unmatched], gone)

    async def _record_missing(
        self, batch: Sequence[FolderListing], gone: set[UUID], unresolved: UnresolvedFiles
    ) -> None:
        """Records missing files of the batch. Files of a folder listed in parts are counted; only if some are missing are all of them recorded, to
        be checked one by one."""
        parts = {listing.folder for listing in batch if listing.is_part}
        self._missing.add(gone)
        self._missing.add(asset_id for asset_id, folder in unresolved.displaced.items() if folder not in parts)
        self._incomplete_folders |= parts & {*unresolved.folders, *unresolved.displaced.values()}
        for listing in batch:
            if not listing.is_part:
                continue
            self._listed[listing.folder] = self._listed.get(listing.folder, 0) + len(listing.files)
            if not listing.is_last_part:
                continue
            listed_count = self._listed.pop(listing.folder)
            folders = await self._catalog.library_files.get_folders(self._library.id, [listing.folder])
            folder = folders.get(listing.folder)
            if folder is None:
                continue
            if (
                listing.folder in self._incomplete_folders
                or await self._catalog.library_files.count_in_folder(folder.id) > listed_count
            ):
                await self._add_folder_as_missing(folder.id)

    async def _add_folder_as_missing(self, folder_id: UUID) -> None:
        after = ""
        while page := await self._catalog.library_files.get_page(folder_id, after):
            self._missing.add(file.asset_id for file in page)
            after = page[-1].name

    async def _write_changes(self, changes: ScanChanges, found_count: int) -> None:
        changes.new = await self._in_thread(lambda: detect_contents(changes.new))
        lists = (changes.new, changes.changed, changes.renamed, changes.returned, changes.refreshed, changes.sidecars)
        if any(lists) or changes.digests:
            folder_ids = await self._catalog.library_files.apply_changes(self._library, changes)
            self._seen.update(folder_ids.values())
            if self._on_asset_added is not None:
                for asset_id in changes.to_process:
                    self._on_asset_added(asset_id)
        report = self.report
        self.report = replace(
            report,
            found=report.found + found_count,
            new=report.new + len(changes.new),
            changed=report.changed + len({asset_id for asset_id, _ in [*changes.changed, *changes.sidecars]}),
            renamed=report.renamed + len(changes.renamed),
            back=report.back + len(changes.returned),
        )

    async def _find_missing_folders(self) -> None:
        """Records all files of folders that the walk did not reach as missing."""
        below = None
        if self._scopes is not None:
            below = [path for path, deep in self._scopes if deep or path not in self._seen_paths]
            if not below:
                return
        unseen_folders: list[UUID] = []
        async for folders in self._catalog.library_files.iterate_folders(self._library.id, below):
            unseen = [folder.id for folder in folders if folder.id not in self._seen]
            for folder_id in unseen:
                await self._add_folder_as_missing(folder_id)
            unseen_folders += unseen
        if unseen_folders and self._scopes is None:
            await self._catalog.library_files.delete_empty_folders(self._library.id, unseen_folders)

    async def _find_offline_reason(self) -> str | None:
        return find_offline_reason(await self._probe_library())

    async def _probe_library(self) -> list[ImportPathStatus]:
        return await probe_library(self._catalog, self._library, self._executor, self._reserved_folders)

    async def _record_result(self, statuses: Sequence[ImportPathStatus], refused: str | None) -> None:
        """Stores the report, the mount points, and the library's state."""
        is_full = self._scopes is None and refused is None
        is_complete = is_full and not self.unsettled_folders
        seconds = round(time.monotonic() - self._started, 3)
        self.report = replace(self.report, refused=refused, complete=is_complete, seconds=seconds)
        library_id = self._library.id
        if self._scopes is None:
            mounts = sorted({mount for status in statuses for mount in status.mounts})
            # Also after an incomplete scan: a disk may be unmounted before all files on it have settled.
            await self._catalog.libraries.store_scan_report(
                self._library, self.report, tuple(mounts) if is_full else None
            )
        # Lost mounts are in `refused`, unless an operator accepted them; a path that cannot be read is a reason in any case.
        reason = refused or find_offline_reason([replace(status, lost_mounts=()) for status in statuses])
        if reason is not None:
            await self._catalog.libraries.set_state(library_id, LibraryState.UNMOUNTED, reason)
        elif is_full:
            await self._catalog.libraries.set_state(library_id, LibraryState.OK, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


async def probe_library(
    catalog: Catalog, library: Library, executor: Executor, reserved_folders: Collection[ReservedFolder] = ()
) -> list[ImportPathStatus]:
    """Probes each import path in `executor`; one that lies in one of `reserved_folders` gets an error. `lost_mounts` keeps only mount points below
    which the catalogue has files. Raises `CatalogError`."""
    statuses: list[ImportPathStatus] = []
    for status in await asyncio.get_running_loop().run_in_executor(
        executor, probe_import_paths, library, reserved_folders
    ):
        lost_mounts = [
            lost for lost in status.lost_mounts if await catalog.library_files.count_below(library.id, lost[1])
        ]
        statuses.append(replace(status, lost_mounts=tuple(lost_mounts)))
    return statuses


def find_offline_reason(statuses: Sequence[ImportPathStatus]) -> str | None:
    """Why the library counts as unmounted, by the status of its import paths; None if it does not."""
    mounts = dict.fromkeys(
        mount_point for status in statuses if status.error is None for mount_point, _ in status.lost_mounts
    )
    return offline_guard.LibraryAvailability(
        tuple(status.error for status in statuses if status.error), tuple(mounts)
    ).offline_reason


def _escape_undecodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
