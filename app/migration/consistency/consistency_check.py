"""`ConsistencyCheck`: compares catalogue and storage in both directions while the service runs.

1. All objects are listed into a `ListingStore` on disk.
2. Objects without a row are looked up in the catalogue again.
3. Each live file is compared with the listing, and with its object where the listing differs or checksums are to be read.
4. The kept counts are compared with the rows that they count.

Each suspected problem is checked again before it is reported. The order of the checks follows the order of writes: a row exists before its
object and is deleted after it, and a file's path changes before its source is removed. So uploads, deletions and moves in progress are
never reported. Memory use does not depend on the size of the library.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.schema.records import File, FileKind, FileState
from app.catalog.schema.upload_records import Upload
from app.health.markers import MARKER_NAME, MEDIA_FOLDERS
from app.migration.backups.backup_store import BACKUP_FOLDER as BACKUPS
from app.migration.consistency.findings import (
    ConsistencyFinding,
    ConsistencyProgress,
    ConsistencySummary,
    FindingKind,
    FindingRepairer,
)
from app.migration.listing_store import ListingStore
from app.storage.errors import (
    InvalidKey,
    ListingIncomplete,
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
)
from app.storage.path import is_s3_uri
from app.storage.resumable import ResumableWriteState
from app.storage.service import StorageService

QUARANTINE_FOLDER = "quarantine"
"""The folder below the media location that orphans are moved to on request."""

_MARKERS = frozenset((MARKER_NAME, *(f"{folder}/{MARKER_NAME}" for folder in MEDIA_FOLDERS)))
_KNOWN_FOLDERS = {BACKUPS: "backup", QUARANTINE_FOLDER: "quarantined"}
_LISTING_BATCH = 500
_PAGE_ROWS = 500
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_MAX_UNAVAILABLE = 50
"""After this many consecutive `StorageUnavailable` errors the store counts as unreachable, and the check ends."""


class ConsistencyCheck:
    """One comparison. `checksums`: read every byte. `concurrency`: number of objects that are checked or read at a time."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        *,
        on_finding: Callable[[ConsistencyFinding], None],
        progress: ConsistencyProgress,
        repairer: FindingRepairer | None = None,
        checksums: bool = False,
        concurrency: int = 8,
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._on_finding = on_finding
        self._progress = progress
        self._repairer = repairer
        self._checksums = checksums
        self._slots = asyncio.Semaphore(concurrency)
        self._unavailable = 0
        self._unmounted_roots = set[str | None]()
        self._summary = ConsistencySummary()

    async def run(self) -> ConsistencySummary:
        """Raises `CatalogError`; `StorageError` where a store cannot be listed or is unavailable, or where the listing cannot be kept.
        Findings reported before remain valid."""
        try:
            async with self._storage.staging.temporary_folder() as folder:
                with ListingStore(folder) as listing_store:
                    await self._list_objects(listing_store)
                    await self._check_suspects(listing_store)
                    await self._check_files(listing_store)
            await self._check_uploads()
            await self._check_counts()
        except ExceptionGroup as failures:  # of concurrent checks
            raise failures.exceptions[0] from None
        return self._summary

    async def _list_objects(self, listing_store: ListingStore) -> None:
        self._progress.begin("listing objects", None)
        batch: list[tuple[str, str, int]] = []
        refused: tuple[str, ...] = ()
        try:
            async for path, info in self._storage.list_managed():
                batch.append((path, info.key, info.size))
                if len(batch) == _LISTING_BATCH:
                    await self._store_listed(listing_store, batch)
                    batch = []
        except ListingIncomplete as error:
            refused = error.folders  # files in them are checked one by one
        await self._store_listed(listing_store, batch)
        for folder in refused:
            await self._report_finding(
                ConsistencyFinding(FindingKind.UNREADABLE, folder, detail="the folder may not be listed")
            )

    async def _store_listed(self, listing_store: ListingStore, batch: list[tuple[str, str, int]]) -> None:
        known_paths = await self._catalog.files.find_known_paths([path for path, _, _ in batch])
        suspects: list[tuple[str, str, int]] = []
        for path, key, size in batch:
            kind = _known_kind(key)
            if path not in known_paths and kind is None:
                suspects.append((path, key, size))
            elif kind is not None:
                self._summary.known[kind] += 1
        await listing_store.add([(path, size) for path, _, size in batch], suspects)
        self._summary.objects += len(batch)
        self._progress.advance(len(batch))

    async def _check_suspects(self, listing_store: ListingStore) -> None:
        self._progress.begin("asking again about objects without a row", None)
        last = ""
        while suspects := await listing_store.get_mismatches(last):
            known_paths = await self._catalog.files.find_known_paths([path for path, _, _ in suspects])
            async with asyncio.TaskGroup() as group:
                for path, key, size in suspects:
                    if path not in known_paths:
                        await self._slots.acquire()
                        group.create_task(self._check_suspect(path, key, size))
            self._progress.advance(len(suspects))
            last = suspects[-1][0]

    async def _check_suspect(self, path: str, key: str, size: int) -> None:
        """Reports an orphan. The object had no row after the listing; if it still exists, and then still has no row, it is no upload in
        progress."""
        try:
            detail = ""
            try:
                if not await self._storage.exists(path):
                    return
            except InvalidKey:
                detail = "its name is none that mediavault gives"
            if not await self._catalog.files.find_known_paths([path]):
                await self._report_finding(
                    ConsistencyFinding(FindingKind.ORPHAN, path, key=key, found_size=size, detail=detail)
                )
        finally:
            self._slots.release()

    async def _check_files(self, listing_store: ListingStore) -> None:
        await self._check_foreign_roots()
        count = await self._catalog.counts.count_live_files()
        self._progress.begin("reading files" if self._checksums else "comparing files", count)
        async with asyncio.TaskGroup() as group:
            async for page in self._iterate_checked_files():
                listed = await listing_store.sizes([file.path for file in page])
                for file in page:
                    if file.state is not FileState.LIVE:
                        continue
                    is_listed = not self._checksums and listed.get(file.path, -1) == file.size
                    if is_listed or self._is_unmounted(file):
                        self._progress.advance(1)
                        continue
                    await self._slots.acquire()
                    group.create_task(self._check_file(file))
                await self._check_copies(page, listing_store, group)
                await self._check_former_copies(page, listed, group)
        self._summary.unsettled -= min(self._summary.copies, self._summary.unsettled)  # their rows are `writing`

    async def _check_copies(self, page: list[File], listing_store: ListingStore, group: asyncio.TaskGroup) -> None:
        """The copies of the page's foreign files, as the files themselves."""
        copies = [replace(file, path=file.copy_path) for file in page if file.copy_path is not None]
        listed = await listing_store.sizes([copy.path for copy in copies]) if copies else {}
        self._summary.copies += len(copies)
        for copy in copies:
            if self._checksums or listed.get(copy.path, -1) != copy.size:
                await self._slots.acquire()
                group.create_task(self._check_file(copy))

    async def _check_former_copies(self, page: list[File], listed: dict[str, int], group: asyncio.TaskGroup) -> None:
        """What foreign files have held before: only the copies have it now."""
        ids = [file.id for file in page if _may_be_former(file)]
        former = await self._catalog.kept_copies.find_former(ids) if ids else frozenset[UUID]()
        self._summary.copies += len(former)
        for copy in page:
            if copy.id in former and (self._checksums or listed.get(copy.path, -1) != copy.size):
                await self._slots.acquire()
                group.create_task(self._check_file(copy))

    async def _check_foreign_roots(self) -> None:
        """Reports folders of foreign files that are not mounted or do not answer: their files are not missing."""
        for root in await self._catalog.foreign_files.list_roots():
            try:
                await self._storage.check_foreign_root(root)
            except StorageUnavailable as error:
                self._unmounted_roots.add(root)
                await self._report_finding(ConsistencyFinding(FindingKind.UNREADABLE, root, detail=error.detail))

    def _is_unmounted(self, file: File) -> bool:
        """Whether the file is a foreign one whose folder is not mounted. Its copy can be checked all the same."""
        return file.is_foreign and self._storage.find_foreign_root(file.path) in self._unmounted_roots

    async def _iterate_checked_files(self) -> AsyncIterator[list[File]]:
        """Pages of live managed and foreign files, and of rows that may be former copies; other files are only counted."""
        page: list[File] = []
        async for file in self._catalog.files.iterate_all():
            if file.state is not FileState.LIVE:
                self._summary.unsettled += 1
                if _may_be_former(file):
                    page.append(file)
            elif file.is_foreign:
                self._summary.foreign += 1
                page.append(file)
            elif file.kind is FileKind.EXTERNAL or not (
                is_s3_uri(file.path) or self._storage.is_managed_path(file.path)
            ):
                self._summary.external += 1
                self._progress.advance(1)
            else:
                self._summary.files += 1
                page.append(file)
            if len(page) == _PAGE_ROWS:
                yield page
                page = []
        yield page

    async def _check_file(self, file: File) -> None:
        try:
            finding = await self._find_lasting_problem(file)
            if finding is not None:
                await self._report_finding(finding)
        finally:
            if not _is_copy(file):
                self._progress.advance(1)
            self._slots.release()

    async def _find_lasting_problem(self, file: File) -> ConsistencyFinding | None:
        """The file's problem, if its row is still live afterwards. Where the path has changed, or the problem is transient, the check is
        repeated, `_ATTEMPTS` times in all."""
        for attempt in range(1, _ATTEMPTS + 1):
            finding = await self._find_problem(file)
            if finding is None:
                return None
            current = await self._catalog.files.get(file.id)
            if current is None or current.state is not file.state:
                return None  # deleted meanwhile
            if _may_be_former(file) and not await self._catalog.kept_copies.find_former([file.id]):
                return None  # it is the file's copy again
            if file.copy_path == file.path:
                current = replace(current, path=current.copy_path or "")
                if not current.path:
                    return None  # the copy was forgotten meanwhile
            is_moved = current.path != file.path
            if attempt == _ATTEMPTS or not (is_moved or finding.is_transient):
                return finding
            if not is_moved:
                await asyncio.sleep(_PAUSE_SECONDS)
            file = current
        return None

    async def _find_problem(self, file: File) -> ConsistencyFinding | None:
        """The problem of the object at the file's path now; None where there is none."""
        finding = await self._find_object_problem(file)
        if finding is None or not _is_copy(file):
            return finding
        what = "a copy of what its source held before" if _may_be_former(file) else "a copy beside its source"
        return replace(finding, is_copy=True, detail="; ".join(filter(None, (finding.detail, what))))

    async def _find_object_problem(self, file: File) -> ConsistencyFinding | None:
        if file.is_foreign and not _is_copy(file) and self._storage.find_foreign_root(file.path) is None:
            return ConsistencyFinding(FindingKind.UNPLACED, file.path, file, detail="lies below no foreign root")
        try:
            size, sha1 = await (self._read(file) if self._checksums and file.sha1 is not None else self._stat(file))
        except InvalidKey as error:
            return ConsistencyFinding(FindingKind.UNPLACED, file.path, file, detail=error.detail)
        except ObjectNotFound:
            return ConsistencyFinding(FindingKind.MISSING, file.path, file)
        except StorageError as error:
            self._note_unavailable(error)
            detail = error.detail or type(error).__name__
            passes = error.retryable or isinstance(error, ObjectChanged)
            return ConsistencyFinding(FindingKind.UNREADABLE, file.path, file, detail=detail, is_transient=passes)
        self._unavailable = 0
        if size != file.size and not (file.size is None and _may_be_former(file)):  # older programs did not record it
            return ConsistencyFinding(FindingKind.SIZE, file.path, file, found_size=size)
        if sha1 is not None and sha1 != file.sha1:
            return ConsistencyFinding(
                FindingKind.CHECKSUM, file.path, file, found_size=size, detail=f"SHA-1 is {sha1.hex()}"
            )
        return None

    async def _check_uploads(self) -> None:
        """Unfinished uploads whose stored bytes are gone. Their tails and temporary files are no objects, so no orphans."""
        self._progress.begin("checking unfinished uploads", None)
        async for page in self._catalog.uploads.iterate_stored():
            async with asyncio.TaskGroup() as group:
                for upload in page:
                    await self._slots.acquire()
                    group.create_task(self._check_upload(upload))

    async def _check_upload(self, upload: Upload) -> None:
        """Reports the upload, if its row is still the same afterwards."""
        try:
            if upload.path is None or upload.storage_state is None:
                return
            self._summary.uploads += 1
            try:
                await self._storage.resumable.check(upload.path, ResumableWriteState(upload.storage_state))
            except InvalidKey as error:
                finding = ConsistencyFinding(
                    FindingKind.UNPLACED, upload.path, detail=error.detail, upload_id=upload.id
                )
            except ObjectNotFound as error:
                finding = ConsistencyFinding(
                    FindingKind.MISSING,
                    upload.path,
                    detail=f"an unfinished upload: {error.detail}",
                    upload_id=upload.id,
                )
            except StorageError as error:
                self._note_unavailable(error)
                detail = f"an unfinished upload: {error.detail or type(error).__name__}"
                finding = ConsistencyFinding(FindingKind.UNREADABLE, upload.path, detail=detail, upload_id=upload.id)
            else:
                return
            current = await self._catalog.uploads.get(upload.owner_id, upload.id)
            if current is not None and current.is_open and current.storage_state == upload.storage_state:
                await self._report_finding(finding)
        finally:
            self._progress.advance(1)
            self._slots.release()

    async def _check_counts(self) -> None:
        self._progress.begin("comparing counts", None)
        for difference in await self._catalog.kept_counts.find_differences():
            detail = f"{difference.groups} counts of {difference.owners} users differ from the rows"
            await self._report_finding(ConsistencyFinding(FindingKind.COUNT, difference.table, detail=detail))

    async def _stat(self, file: File) -> tuple[int, bytes | None]:
        if file.is_foreign and not _is_copy(file):
            return (await self._storage.stat_foreign_source(file.path)).size, None
        return (await self._storage.stat(file.path)).size, None

    async def _read(self, file: File) -> tuple[int, bytes]:
        size, sha1 = 0, hashlib.sha1(usedforsecurity=False)
        is_source = file.is_foreign and not _is_copy(file)
        read = self._storage.read_foreign_source if is_source else self._storage.read
        async with read(file.path) as stream:
            async for chunk in stream.chunks:
                sha1.update(chunk)
                size += len(chunk)
                self._progress.advance(0, len(chunk))
                await asyncio.sleep(0)  # reads from the page cache never suspend: let other tasks run
        self._summary.bytes_read += size
        return size, sha1.digest()

    def _note_unavailable(self, error: StorageError) -> None:
        if not isinstance(error, StorageUnavailable):
            return
        self._unavailable += 1
        if self._unavailable > _MAX_UNAVAILABLE:
            raise error

    async def _report_finding(self, finding: ConsistencyFinding) -> None:
        self._summary.problems[finding.problem] += 1
        repair: str | None = None
        try:
            repair = await self._repairer.repair(finding) if self._repairer else None
        except StorageError as error:
            refused = f"cannot be repaired: {error.detail or type(error).__name__}"
            finding = replace(finding, detail="; ".join(filter(None, (finding.detail, refused))))
        if repair is not None:
            self._summary.repaired[repair] += 1
        self._on_finding(replace(finding, repair=repair))


def _is_copy(file: File) -> bool:
    """Whether this stands for the copy of a foreign file: see `_check_copies`."""
    return file.copy_path == file.path or _may_be_former(file)


def _may_be_former(file: File) -> bool:
    """Whether this is the row of a copy of a foreign file: its present copy, a former one, or one that is being made."""
    return file.state is FileState.WRITING and file.copy_of is not None


def _known_kind(key: str) -> str | None:
    """The kind of an object that needs no row; None for other objects."""
    if key in _MARKERS:
        return "marker"
    folder, slash, _ = key.partition("/")
    return _KNOWN_FOLDERS.get(folder) if slash else None
