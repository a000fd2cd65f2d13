"""Compares catalogue and storage, both ways, while the service runs.

First every object is listed, and the listing kept on disk; then the catalogue is asked, once more, about those that it did not account for;
then each live file is looked for in the listing, and where that is not enough at its place. What looks wrong is asked about again
before it counts, in the order in which others work: a row is there before its object and goes after it, a file's path changes before its
source is removed. So nothing that an upload, a deletion or a move is about is ever taken for a loss. Memory does not grow with the library.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from app.catalog.catalog import Catalog
from app.catalog.schema.records import File, FileKind, FileState
from app.health.markers import MARKER_NAME, MEDIA_FOLDERS
from app.migration.backups.backup_store import BACKUP_FOLDER as BACKUPS
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
from app.storage.service import StorageService

QUARANTINE_FOLDER = "quarantine"
"""Below the media location: where orphans go when somebody asks for it."""

_MARKERS = frozenset((MARKER_NAME, *(f"{folder}/{MARKER_NAME}" for folder in MEDIA_FOLDERS)))
_KNOWN_FOLDERS = {BACKUPS: "backup", QUARANTINE_FOLDER: "quarantined"}
_LISTING_BATCH = 500
_PAGE_ROWS = 500
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_MAX_UNAVAILABLE = 50
"""So many in a row, and the store is away: nothing can be said about any of them."""


class FindingKind(StrEnum):
    """`missing`: a live file has no object. `size`, `checksum`: its object is not what was stored. `unreadable`: it could not be read.
    `unplaced`: its path lies in no place that the settings name. `orphan`: an object that no row accounts for."""

    MISSING = "missing"
    SIZE = "size"
    CHECKSUM = "checksum"
    UNREADABLE = "unreadable"
    UNPLACED = "unplaced"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class ConsistencyFinding:
    """`file` is None for an orphan and for a folder, `key` an orphan's place below the media location. Sizes in bytes. `repair` says what was done about it, if
    anything was. `is_transient`: it may be otherwise a moment later."""

    problem: FindingKind
    path: str
    file: File | None = None
    key: str | None = None
    found_size: int | None = None
    detail: str = ""
    repair: str | None = None
    is_transient: bool = False


@dataclass(slots=True)
class ConsistencySummary:
    """Numbers of objects that were listed, of live files that were looked at, with their bytes, and of what else there was: `known` objects by
    kind, files in `external` folders and `unsettled` ones (being written, or to be deleted), which are not looked at."""

    objects: int = 0
    files: int = 0
    bytes_read: int = 0
    known: Counter[str] = field(default_factory=Counter[str])
    external: int = 0
    unsettled: int = 0
    problems: Counter[FindingKind] = field(default_factory=Counter[FindingKind])
    repaired: Counter[str] = field(default_factory=Counter[str])

    @property
    def unrepaired(self) -> int:
        return self.problems.total() - self.repaired.total()


class ConsistencyProgress(Protocol):
    """Somebody watches."""

    def begin(self, stage: str, total: int | None) -> None:
        """`total` objects or files are to come, where that is known."""
        ...

    def advance(self, count: int, size: int = 0) -> None:
        """So many more, and so many bytes read."""
        ...


class FindingRepairer(Protocol):
    """What is done about findings; see `app.migration.consistency.finding_repair`."""

    async def repair(self, finding: ConsistencyFinding) -> str | None:
        """In a word, what was done; None where nothing was. A `StorageError` says why it cannot be."""
        ...


class ConsistencyCheck:
    """One comparison. `checksums`: read every byte. `concurrency`: so many objects are asked about or read at a time."""

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
        self._summary = ConsistencySummary()

    async def run(self) -> ConsistencySummary:
        """Raises `CatalogError`, or a `StorageError` where a store cannot be listed or is away, or the listing not be kept: what was reported
        until then holds."""
        try:
            async with self._storage.staging.temporary_folder() as folder:
                with ListingStore(folder) as spool:
                    await self._list_objects(spool)
                    await self._check_suspects(spool)
                    await self._check_files(spool)
        except ExceptionGroup as failures:  # of those that were asked about together
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
            refused = error.folders  # files that ought to be in them are looked for one by one
        await self._store_listed(listing_store, batch)
        for folder in refused:
            await self._report_finding(
                ConsistencyFinding(FindingKind.UNREADABLE, folder, detail="the folder may not be listed")
            )

    async def _store_listed(self, listing_store: ListingStore, batch: list[tuple[str, str, int]]) -> None:
        accounted = await self._catalog.files.find_known_paths([path for path, _, _ in batch])
        suspects: list[tuple[str, str, int]] = []
        for path, key, size in batch:
            kind = _known_kind(key)
            if path not in accounted and kind is None:
                suspects.append((path, key, size))
            elif kind is not None:
                self._summary.known[kind] += 1
        await listing_store.add([(path, size) for path, _, size in batch], suspects)
        self._summary.objects += len(batch)
        self._progress.advance(len(batch))

    async def _check_suspects(self, listing_store: ListingStore) -> None:
        self._progress.begin("asking again about objects without a row", None)
        last = ""
        while suspects := await listing_store.suspects(last):
            accounted = await self._catalog.files.find_known_paths([path for path, _, _ in suspects])
            async with asyncio.TaskGroup() as group:
                for path, key, size in suspects:
                    if path not in accounted:
                        await self._slots.acquire()
                        group.create_task(self._check_suspect(path, key, size))
            self._progress.advance(len(suspects))
            last = suspects[-1][0]

    async def _check_suspect(self, path: str, key: str, size: int) -> None:
        """It had no row when it was asked for after the listing. If it is still there, and has none after that, it never had one."""
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
        count = await self._catalog.files.count_live()
        self._progress.begin("reading files" if self._checksums else "comparing files", count)
        async with asyncio.TaskGroup() as group:
            async for page in self._iterate_live_files():
                listed = await listing_store.sizes([file.path for file in page])
                for file in page:
                    if not self._checksums and listed.get(file.path, -1) == file.size:
                        self._progress.advance(1)
                        continue
                    await self._slots.acquire()
                    group.create_task(self._check_file(file))

    async def _iterate_live_files(self) -> AsyncIterator[list[File]]:
        """Live managed files; the others are counted."""
        page: list[File] = []
        async for file in self._catalog.files.iterate_all():
            if file.state is not FileState.LIVE:
                self._summary.unsettled += 1
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
            self._progress.advance(1)
            self._slots.release()

    async def _find_lasting_problem(self, file: File) -> ConsistencyFinding | None:
        """What is wrong with it, and still was when the catalogue was asked again."""
        for attempt in range(1, _ATTEMPTS + 1):
            finding = await self._find_problem(file)
            if finding is None:
                return None
            current = await self._catalog.files.get(file.id)
            if current is None or current.state is not FileState.LIVE:
                return None  # deleted meanwhile
            moved = current.path != file.path
            if attempt == _ATTEMPTS or not (moved or finding.is_transient):
                return finding
            if not moved:
                await asyncio.sleep(_PAUSE_SECONDS)
            file = current
        return None

    async def _find_problem(self, file: File) -> ConsistencyFinding | None:
        """What is wrong at the file's place right now."""
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
        if size != file.size:
            return ConsistencyFinding(FindingKind.SIZE, file.path, file, found_size=size)
        if sha1 is not None and sha1 != file.sha1:
            return ConsistencyFinding(
                FindingKind.CHECKSUM, file.path, file, found_size=size, detail=f"SHA-1 is {sha1.hex()}"
            )
        return None

    async def _stat(self, file: File) -> tuple[int, bytes | None]:
        return (await self._storage.stat(file.path)).size, None

    async def _read(self, file: File) -> tuple[int, bytes]:
        size, sha1 = 0, hashlib.sha1(usedforsecurity=False)
        async with self._storage.read(file.path) as stream:
            async for chunk in stream.chunks:
                sha1.update(chunk)
                size += len(chunk)
                self._progress.advance(0, len(chunk))
                await asyncio.sleep(0)  # what is in memory comes without waiting, and others want to get on
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


def _known_kind(key: str) -> str | None:
    """What an object is that needs no row."""
    if key in _MARKERS:
        return "marker"
    folder, slash, _ = key.partition("/")
    return _KNOWN_FOLDERS.get(folder) if slash else None
