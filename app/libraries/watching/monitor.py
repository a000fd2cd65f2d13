"""Keeps one library: notices that its disk went away or came back, and follows changes where that is wanted.

Runs in one process of the installation. Where the system can not watch, the library is looked through again and again instead, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.schema.library_records import Library, LibraryState, ScanReport
from app.libraries.errors import LibraryError
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.import_paths.probe import ImportPathStatus
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning.scan import find_offline_reason, probe_library
from app.libraries.scanning.walk import ScanScope
from app.libraries.watching.events import (
    MAX_PENDING_FOLDERS,
    FolderEventReader,
    PendingFolders,
    WatchUnavailable,
    find_changed_scopes,
)
from app.libraries.watching.tree import WatchLost

PROBE_SECONDS = 5.0
"""How often a library's folders are looked at, and how long a disk may take to answer."""
RETRY_SECONDS = 120.0
"""How often a library is scanned again of which too much was missing."""

log = structlog.get_logger(__name__)

ScanLibrary = Callable[[UUID, Sequence[ScanScope] | None, float | None], Awaitable[tuple[ScanReport, set[str]]]]
"""Scans the library: all of it, or some folders; with files that changed after a moment left out. Returns the report, and folders with
such files."""


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """How to watch; `settle_seconds` and `poll_seconds` in seconds. `reserved_folders` are mediavault's folders."""

    is_enabled: bool
    settle_seconds: float
    poll_seconds: float
    reserved_folders: tuple[ReservedFolder, ...] = ()


class LibraryMonitor:
    def __init__(
        self, catalog: Catalog, library_id: UUID, threads: Executor, policy: WatchPolicy, scan: ScanLibrary
    ) -> None:
        self._catalog = catalog
        self._library_id = library_id
        self._threads = threads
        self._policy = policy
        self._scan = scan
        self._watch: FolderEventReader | None = None
        self._pending = PendingFolders(policy.settle_seconds)
        self._watched_setup: object = None
        """What the watch was set on: other paths or other disks need another one."""
        self._poll_due = 0.0
        self._retry_due = 0.0
        self._full_scan_due: float | None = None
        """When to look through everything again, at the earliest: the last time some files were still being written."""
        self._probe_task: asyncio.Task[list[ImportPathStatus]] | None = None

    async def run(self) -> None:
        """Until it is cancelled, or the library is removed."""
        name = str(self._library_id)
        try:
            while True:
                try:
                    library = await self._catalog.libraries.get(self._library_id)
                    if library is None:
                        return
                    name = library.name
                    await self._monitor_once(library)
                except (CatalogError, LibraryError) as error:
                    if not self._catalog.outages.covers(error):
                        log.warning("a library could not be looked at", library=name, reason=str(error))
                    self._watched_setup = None  # what was to be looked at then is found by looking through everything
                    await asyncio.sleep(1.0)
        finally:
            self._stop_watching()
            if self._probe_task is not None:
                self._probe_task.cancel()

    async def _monitor_once(self, library: Library) -> None:
        """Look once, then follow events until it is time to look again."""
        roots = await self._probe_import_paths(library)
        reason = self._offline_reason(library, roots)
        if roots is None or reason is not None:
            await self._handle_offline(library, reason)
            if roots is not None:
                await asyncio.sleep(PROBE_SECONDS)
            return
        if library.state is LibraryState.UNMOUNTED:
            await self._handle_return(library)
        if library.watch is not None and not self._policy.is_enabled:
            await self._record_watch_mode(library, None)
        standing = (
            library.import_paths,
            library.exclusion_patterns,
            tuple((root.mount_fingerprint, root.mounts) for root in roots),
        )
        await self._run_while_probing(library, self._follow_changes(library, roots, standing))

    async def _follow_changes(self, library: Library, roots: Sequence[ImportPathStatus], standing: object) -> None:
        if self._policy.is_enabled and standing != self._watched_setup:
            await self._start_watching(library, roots)
            self._watched_setup = standing
        until = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < until:
            await self._process_due(library, until)

    async def _run_while_probing(self, library: Library, work: Coroutine[Any, Any, None]) -> None:
        """Do what may have to wait for the disk, and notice meanwhile when that does not answer any more."""
        working = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([working], timeout=2 * PROBE_SECONDS))[0]:
                reason = self._offline_reason(library, await self._probe_import_paths(library))
                if reason is not None:
                    await self._record_offline(library, reason)
        finally:
            working.cancel()
            await asyncio.wait([working])
        working.result()

    async def _probe_import_paths(self, library: Library) -> list[ImportPathStatus] | None:
        """None where a disk does not answer; it is not asked again before it has."""
        if self._probe_task is None:
            self._probe_task = asyncio.create_task(
                probe_library(self._catalog, library, self._threads, self._policy.reserved_folders)
            )
        done, _ = await asyncio.wait([self._probe_task], timeout=PROBE_SECONDS)
        if not done:
            return None
        looked, self._probe_task = self._probe_task, None
        return looked.result()

    @staticmethod
    def _offline_reason(library: Library, roots: Sequence[ImportPathStatus] | None) -> str | None:
        if roots is not None:
            return find_offline_reason(roots)
        return f"{', '.join(library.import_paths)}: does not answer"

    async def _record_offline(self, library: Library, reason: str | None) -> None:
        if await self._catalog.libraries.set_state(library.id, LibraryState.UNMOUNTED, reason):
            log.error("a library is not there", library=library.name, reason=reason)

    async def _handle_offline(self, library: Library, reason: str | None) -> None:
        await self._record_offline(library, reason)
        self._stop_watching()
        self._watched_setup = None
        self._retry_due = 0.0

    async def _handle_return(self, library: Library) -> None:
        """Its folders are there again: see whether its files are, too."""
        if time.monotonic() < self._retry_due:
            return
        self._retry_due = time.monotonic() + RETRY_SECONDS
        report, _ = await self._scan(library.id, None, None)
        if report.refused is None:
            log.info("a library is there again", library=library.name, found=report.found)

    async def _start_watching(self, library: Library, roots: Sequence[ImportPathStatus]) -> None:
        """Watch first, then look through everything: nothing falls between."""
        self._stop_watching()
        network = next((f"{root.path} is on {root.network_fs_type}" for root in roots if root.network_fs_type), None)
        if network is not None:
            await self._fall_back_to_polling(library, network)
            return
        watch = self._watch = FolderEventReader()
        try:
            await watch.open(
                [root.path for root in roots], ExclusionRules(library.exclusion_patterns), self._policy.reserved_folders
            )
        except WatchUnavailable as error:
            await self._fall_back_to_polling(library, str(error))
            return
        await self._record_watch_mode(library, "events of the system")
        await self._scan_whole_library(library)

    async def _fall_back_to_polling(self, library: Library, reason: str) -> None:
        self._close_watch()
        self._poll_due = 0.0
        how = f"every {self._policy.poll_seconds:g} seconds: {reason}"
        if library.watch != how:
            log.warning("a library can not be watched and is polled", library=library.name, how=how)
        await self._record_watch_mode(library, how)

    async def _process_due(self, library: Library, until: float) -> None:
        """What is due: one round of events, of settled folders or of polling."""
        if self._watch is None:
            pause = until if not self._is_polling else min(until, self._poll_due)
            await asyncio.sleep(max(0.0, pause - time.monotonic()))
            if self._is_polling and time.monotonic() >= self._poll_due:
                began = time.monotonic()
                await self._scan_whole_library(library)
                # A tree that takes long to look through is not looked through all the time.
                self._poll_due = time.monotonic() + max(self._policy.poll_seconds, 5 * (time.monotonic() - began))
            return
        try:
            changed = await self._watch.read_changed_paths()
        except WatchLost as lost:
            log.info("a library is to be watched anew", library=library.name, reason=str(lost))
            self._stop_watching()
            self._watched_setup = None
            return
        except WatchUnavailable as error:
            await self._fall_back_to_polling(library, str(error))
            return
        if changed:
            loop = asyncio.get_running_loop()
            scopes = await loop.run_in_executor(self._threads, find_changed_scopes, changed, library.import_paths)
            self._pending.add(scopes, time.monotonic())
        await self._scan_settled_folders(library)

    @property
    def _is_polling(self) -> bool:
        return self._policy.is_enabled and self._watched_setup is not None and self._watch is None

    async def _scan_settled_folders(self, library: Library) -> None:
        rests = not self._pending and self._full_scan_due is not None and time.monotonic() >= self._full_scan_due
        if rests or len(self._pending) > MAX_PENDING_FOLDERS:
            await self._scan_whole_library(library)
        elif due := self._pending.take_due(time.monotonic()):
            _, unsettled = await self._scan(library.id, due, time.time() - self._policy.settle_seconds)
            self._pending.add([(folder, False) for folder in unsettled], time.monotonic())

    async def _scan_whole_library(self, library: Library) -> None:
        self._pending.clear()
        began = time.monotonic()
        _, unsettled = await self._scan(library.id, None, time.time() - self._policy.settle_seconds)
        ended = time.monotonic()
        self._pending.add([(folder, False) for folder in unsettled], ended)
        # Only a complete scan is what later losses are measured by; but not all the time, where a tree takes long to look through.
        self._full_scan_due = ended + 5 * (ended - began) if unsettled else None

    def _stop_watching(self) -> None:
        self._close_watch()
        self._pending.clear()

    def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    async def _record_watch_mode(self, library: Library, how: str | None) -> None:
        await self._catalog.libraries.set_watch_status(library.id, how)
