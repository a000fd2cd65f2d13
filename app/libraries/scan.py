"""One scan of a library: walks its folders in a thread, a batch at a time, and writes what changed, a transaction for each batch.

Memory does not grow with the files: of what was seen the ids of the folders are kept, and those of files that were not found. These go to the trash
at the end, after another look at each, and only if the guard does not take it for a disk that is away.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.library_records import (
    Changes,
    Found,
    KnownFile,
    KnownFolder,
    Library,
    LibraryState,
    Placed,
    ScanReport,
)
from app.catalog.records import AssetType
from app.formats import Kind, supported
from app.libraries import guard
from app.libraries.compare import compare, digest, find_renamed
from app.libraries.exclusions import Exclusions
from app.libraries.sight import RootSight, look
from app.libraries.walk import Listing, Scope, Walk
from app.storage.local.reading import moment_of

BATCH_FILES = 2000
BATCH_FOLDERS = 200
GONE_BATCH = 500
NAMED_UNREADABLE = 100
_ID_BYTES = 16

T = TypeVar("T")
Progress = Callable[[ScanReport], None]


class Fate(Enum):
    """What a second look at a file that was not found shows."""

    GONE = "gone"
    LEFT_OUT = "left out"
    """It no longer belongs to the library: excluded, or outside its paths."""
    UNKNOWN = "unknown"
    """It is there after all, or could not be looked at."""


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
    ) -> None:
        """`accept_missing`: a person says that what is missing was deleted. `scopes`: look at these folders only (see `Walk`, also for
        `rest_before`), not at the whole library. `added` is told of each asset that is to be processed."""
        self._catalog = catalog
        self._library = library
        self._threads = threads
        self._accept_missing = accept_missing
        self._scopes = scopes
        self._rest_before = rest_before
        self._progress = progress
        self._added = added
        self._exclusions = Exclusions(library.exclusion_patterns)
        self._started = time.monotonic()
        self.report = ScanReport(started_at=datetime.now(UTC))
        self.unsettled: set[str] = set()
        """Folders with files that are still being written: to be looked at again."""
        self._seen: set[UUID] = set()
        self._seen_paths: set[str] = set()
        self._missing = bytearray()
        self._walks: list[Walk] = []
        self._listed: dict[str, int] = {}

    async def run(self) -> ScanReport:
        """Raises `CatalogError`. What was written before a failure or a cancellation stays, and the next scan goes on from there."""
        roots = await self._look()
        reason = None if self._accept_missing else reason_of(roots)
        # A first scan has nothing to recognise by its inode.
        known = bool(await self._catalog.library_files.count_all(self._library.id))
        for root in roots:
            if root.error is None and (self._accept_missing or not root.lost):
                await self._walk(root.path, compare_inodes=known)
        if known and reason is None and not self._only_a_part_of_what_is_away:
            await self._find_missing_folders()
            reason = await self._trash_missing()
        await self._conclude(roots, reason)
        return self.report

    @property
    def _only_a_part_of_what_is_away(self) -> bool:
        """Whether the files of a library that counts as unmounted are gone is told by a look at all of it, not folder by folder."""
        away = self._library.state is LibraryState.UNMOUNTED
        return away and self._scopes is not None and not self._accept_missing

    async def _walk(self, root: str, *, compare_inodes: bool) -> None:
        scopes = self._scopes_of(root)
        if not scopes:
            return
        walk = await self._in_thread(lambda: Walk(root, self._exclusions, scopes, rest_before=self._rest_before))
        self._walks.append(walk)
        batches = walk.batches(BATCH_FILES, BATCH_FOLDERS)
        while (batch := await self._in_thread(lambda: next(batches, None))) is not None:
            await self._take(batch, compare_inodes=compare_inodes)
            if self._progress is not None:
                self._progress(self.report)
        self.unsettled |= walk.unsettled
        troubles = [f"{path}: {reason}" for path, reason in walk.troubles.places.items()]
        self.report = replace(
            self.report,
            unreadable_count=self.report.unreadable_count + walk.troubles.count,
            unreadable=(*self.report.unreadable, *map(_printable, troubles))[:NAMED_UNREADABLE],
        )

    def _scopes_of(self, root: str) -> list[Scope]:
        if self._scopes is None:
            return [(root, True)]
        return [scope for scope in self._scopes if scope[0] == root or scope[0].startswith(root + "/")]

    async def _take(self, batch: Sequence[Listing], *, compare_inodes: bool) -> None:
        """Compare a batch of listings with what is known, and write what changed."""
        digests = await self._in_thread(lambda: [digest(listing.files) for listing in batch])
        folders = await self._catalog.library_files.folders(self._library.id, {listing.folder for listing in batch})
        changes = Changes()
        fresh: list[tuple[str, Found]] = []
        gone: list[UUID] = []
        known = await self._known(batch, digests, folders)
        for listing, now, before in zip(batch, digests, known, strict=True):
            folder = folders.get(listing.folder)
            self._note_seen(listing, folder)
            if folder is not None and not listing.part and listing.whole and folder.digest == now:
                continue
            compared = compare(listing.files, before)
            fresh += [(listing.folder, found) for found in compared.new]
            changes.changed += [(asset_id, _placed(listing.folder, found)) for asset_id, found in compared.changed]
            changes.refreshed += compared.refreshed
            changes.back += compared.back
            if not listing.part:
                gone += compared.gone
                settled = listing.whole and not compared.gone
                changes.digests[listing.folder] = now if settled else None
        await self._recognise(fresh, changes, gone, compare_inodes=compare_inodes)
        found = sum(len(listing.files) for listing in batch)
        await self._write(changes, found)
        await self._check_parts(batch)

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

    async def _check_parts(self, batch: Sequence[Listing]) -> None:
        """Of a folder that came in parts the files are counted; only if some are missing each of them is looked at."""
        for listing in batch:
            if not listing.part:
                continue
            self._listed[listing.folder] = self._listed.get(listing.folder, 0) + len(listing.files)
            if not listing.last:
                continue
            listed = self._listed.pop(listing.folder)
            folders = await self._catalog.library_files.folders(self._library.id, [listing.folder])
            folder = folders.get(listing.folder)
            if folder is not None and await self._catalog.library_files.count_in(folder.id) > listed:
                await self._suspect(folder.id)

    async def _suspect(self, folder_id: UUID) -> None:
        after = ""
        while page := await self._catalog.library_files.page(folder_id, after):
            self._note_missing(file.asset_id for file in page)
            after = page[-1].name

    async def _recognise(
        self, fresh: list[tuple[str, Found]], changes: Changes, gone: list[UUID], *, compare_inodes: bool
    ) -> None:
        """New names of known files keep their assets; the rest are new."""
        renamed: dict[int, KnownFile] = {}
        if fresh and compare_inodes:
            inodes = {found[2] for _, found in fresh}
            candidates = await self._catalog.library_files.with_inodes(self._library.id, inodes)
            there = await self._in_thread(lambda: {path: os.path.lexists(path) for _, path in candidates})
            renamed = find_renamed(fresh, candidates, there)
        for place, (folder, found) in enumerate(fresh):
            former = renamed.get(place)
            if former is None:
                changes.new.append(_placed(folder, found))
                continue
            changes.renamed.append((former.asset_id, _placed(folder, found)))
            if former.missing:
                changes.back.append(former.asset_id)
        kept = {former.asset_id for former in renamed.values()}
        self._note_missing(asset_id for asset_id in gone if asset_id not in kept)

    async def _write(self, changes: Changes, found: int) -> None:
        anything = (changes.new, changes.changed, changes.renamed, changes.back, changes.refreshed, changes.digests)
        if any(anything):
            ids = await self._catalog.library_files.apply(self._library.id, changes)
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

    def _note_missing(self, asset_ids: Iterable[UUID]) -> None:
        for asset_id in asset_ids:
            self._missing += asset_id.bytes

    async def _trash_missing(self) -> str | None:
        """Returns why nothing may be moved to the trash, where that is so."""
        left_out = bytearray()
        gone = bytearray()
        async for fates in self._fates():
            for asset_id, fate in fates.items():
                if fate is not Fate.UNKNOWN:
                    (gone if fate is Fate.GONE else left_out).extend(asset_id.bytes)
        for batch in _id_batches(left_out):
            await self._trash(batch)
        reason = await self._verdict(gone)
        for batch in _id_batches(gone):
            if reason is not None:
                return reason
            await self._trash(batch)
            # A disk may go away at any moment.
            reason = None if self._accept_missing else reason_of(await self._look())
        return reason

    async def _trash(self, batch: list[UUID]) -> None:
        trashed = await self._catalog.library_files.trash(self._library.id, batch)
        self.report = replace(self.report, trashed=self.report.trashed + trashed)

    async def _fates(self) -> AsyncIterator[dict[UUID, Fate]]:
        for batch in _id_batches(self._missing):
            paths = await self._catalog.library_files.paths(batch)
            yield await self._in_thread(lambda paths=paths: {each: self._fate(path) for each, path in paths.items()})

    def _fate(self, path: str) -> Fate:
        root = next((root for root in self._library.import_paths if path.startswith(root + "/")), None)
        if root is None or self._left_out(path, root):
            return Fate.LEFT_OUT
        if any(walk.troubles.hides(path) for walk in self._walks):
            return Fate.UNKNOWN
        try:
            status = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return Fate.GONE
        except OSError:
            return Fate.UNKNOWN
        return Fate.UNKNOWN if stat.S_ISREG(status.st_mode) and self._inside(path, root) else Fate.GONE

    def _left_out(self, path: str, root: str) -> bool:
        folder = root
        *folders, name = path.removeprefix(root + "/").split("/")
        for segment in folders:
            if self._exclusions.leaves_out_folder(folder, segment):
                return True
            folder = f"{folder}/{segment}"
        return self._exclusions.leaves_out_file(folder, name)

    def _inside(self, path: str, root: str) -> bool:
        """False for a link that leads out of the import path."""
        return os.path.realpath(path).startswith(os.path.realpath(root) + "/")

    async def _verdict(self, gone: bytearray) -> str | None:
        """Why these files may not be moved to the trash; None where they may."""
        if self._accept_missing:
            return None
        reason = reason_of(await self._look())
        if reason is not None or not gone:
            return reason
        library, files = self._library, self._catalog.library_files
        lost, there = len(gone) // _ID_BYTES, await files.count(library.id)
        if library.scanned_at is None:
            return guard.losses(lost, there)
        # Losses that come bit by bit, as a watch sees them, count together; what came since the last complete scan counts for itself.
        before, old = await files.count_missing(library.id, library.scanned_at)
        for batch in _id_batches(gone):
            old += await files.count_older(batch, library.scanned_at)
        return guard.losses(old, library.files) or guard.losses(before + lost, before + there)

    async def _look(self) -> list[RootSight]:
        return await look_at(self._catalog, self._library, self._threads)

    async def _conclude(self, roots: Sequence[RootSight], refused: str | None) -> None:
        """Note what the scan has seen, and whether the library's folders are there."""
        complete = self._scopes is None and refused is None
        seconds = round(time.monotonic() - self._started, 3)
        self.report = replace(self.report, refused=refused, complete=complete, seconds=seconds)
        library_id = self._library.id
        if self._scopes is None:
            mounts = sorted({mount for root in roots for mount in root.mounts})
            await self._catalog.libraries.note_scan(library_id, self.report, tuple(mounts))
        # What a person accepted is no reason any more, but a path that can not be read stays one.
        reason = refused or reason_of([replace(root, lost=()) for root in roots])
        if reason is not None:
            await self._catalog.libraries.set_state(library_id, LibraryState.UNMOUNTED, reason)
        elif complete:
            await self._catalog.libraries.set_state(library_id, LibraryState.OK, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def look_at(catalog: Catalog, library: Library, threads: Executor) -> list[RootSight]:
    """What is to be seen of each import path. A mount point that is gone counts only where files are known below it."""
    seen: list[RootSight] = []
    for root in await asyncio.get_running_loop().run_in_executor(threads, look, library):
        known = [pair for pair in root.lost if await catalog.library_files.count_below(library.id, pair[1])]
        seen.append(replace(root, lost=tuple(known)))
    return seen


def reason_of(roots: Sequence[RootSight]) -> str | None:
    """Why the library counts as unmounted by what is seen of its roots; None when all is there."""
    mounts = dict.fromkeys(place for root in roots if root.error is None for place, _ in root.lost)
    return guard.Sight(tuple(root.error for root in roots if root.error), tuple(mounts)).reason


def _placed(folder: str, found: Found) -> Placed:
    media = supported(found[0])
    if media is None:
        raise ValueError("a file of no known type was listed")
    kind = AssetType.VIDEO if media.kind is Kind.VIDEO else AssetType.IMAGE
    return Placed(folder, found, kind, media.mime_type, moment_of(found[4]))


def _id_batches(packed: bytearray) -> Iterable[list[UUID]]:
    step = GONE_BATCH * _ID_BYTES
    for start in range(0, len(packed), step):
        part = bytes(packed[start : start + step])
        yield [UUID(bytes=part[place : place + _ID_BYTES]) for place in range(0, len(part), _ID_BYTES)]


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
