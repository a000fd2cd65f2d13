"""Monitors one library: detects that its disk was unmounted or mounted again, and scans what changes, if watching is enabled.

Runs in one process of the installation. Where the kernel cannot watch a library, it is polled (scanned at intervals), and its watch status says
why. Scans are done by the function that the monitor is given.
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
from app.libraries.watching.inotify_tree import WatchLost

PROBE_SECONDS = 5.0
"""Interval of probes of a library's import paths, and time-out of one."""
RETRY_SECONDS = 120.0
"""Pause between scans of a library that counts as unmounted although its folders can be read, as when most files are missing."""

log = structlog.get_logger(__name__)

ScanLibrary = Callable[[UUID, Sequence[ScanScope] | None, float | None], Awaitable[tuple[ScanReport, set[str]]]]
"""Scans the library (None: all of it; else only the scopes), without files that changed after a time (seconds since 1970; None: with all).
Returns the report, and the folders with files that were left out."""


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """Settings of watching. `settle_seconds`: how long a folder waits after an event. `poll_seconds`: pause between scans where polling is needed.
    `reserved_folders` are mediavault's folders, which are never watched."""

    is_enabled: bool
    settle_seconds: float
    poll_seconds: float
    reserved_folders: tuple[ReservedFolder, ...] = ()


class LibraryMonitor:
    def __init__(
        self, catalog: Catalog, library_id: UUID, executor: Executor, policy: WatchPolicy, scan: ScanLibrary
    ) -> None:
        self._catalog = catalog
        self._library_id = library_id
        self._executor = executor
        self._policy = policy
        self._scan = scan
        self._watch: FolderEventReader | None = None
        self._pending = PendingFolders(policy.settle_seconds)
        self._watched_setup: object = None
        """Import paths, patterns and mounts that the current watch was set up for; it is set up again when they differ. None: set up again."""
        self._poll_due = 0.0
        self._retry_due = 0.0
        self._full_scan_due: float | None = None
        """Earliest time of the next full scan, after one that left out files that were still being written."""
        self._probe_task: asyncio.Task[list[ImportPathStatus]] | None = None

    async def run(self) -> None:
        """Monitors until it is cancelled or the library is removed."""
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
                    if not self._catalog.outages.record_failure(error):
                        log.warning("monitoring a library failed and is tried again", library=name, reason=str(error))
                    self._watched_setup = None  # set up again, with a full scan that finds what was missed
                    await asyncio.sleep(1.0)
        finally:
            self._stop_watching()
            if self._probe_task is not None:
                self._probe_task.cancel()

    async def _monitor_once(self, library: Library) -> None:
        """Probes the import paths once, then follows events until the next probe is due."""
        statuses = await self._probe_import_paths(library)
        reason = self._offline_reason(library, statuses)
        if statuses is None or reason is not None:
            await self._handle_offline(library, reason)
            if statuses is not None:
                await asyncio.sleep(PROBE_SECONDS)
            return
        if library.state is LibraryState.UNMOUNTED:
            await self._handle_return(library)
        if library.watch is not None and not self._policy.is_enabled:
            await self._record_watch_mode(library, None)
        setup = (
            library.import_paths,
            library.exclusion_patterns,
            tuple((status.mount_fingerprint, status.mounts) for status in statuses),
        )
        await self._run_while_probing(library, self._follow_changes(library, statuses, setup))

    async def _follow_changes(self, library: Library, statuses: Sequence[ImportPathStatus], setup: object) -> None:
        if self._policy.is_enabled and setup != self._watched_setup:
            await self._start_watching(library, statuses)
            self._watched_setup = setup
        until = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < until:
            await self._process_due(library, until)

    async def _run_while_probing(self, library: Library, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`, which may wait for a disk, and probes meanwhile, so that a disk that hangs is detected."""
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
        """None if a disk does not answer in time. The hung probe stays the only one until it returns."""
        if self._probe_task is None:
            self._probe_task = asyncio.create_task(
                probe_library(self._catalog, library, self._executor, self._policy.reserved_folders)
            )
        done, _ = await asyncio.wait([self._probe_task], timeout=PROBE_SECONDS)
        if not done:
            return None
        finished, self._probe_task = self._probe_task, None
        return finished.result()

    @staticmethod
    def _offline_reason(library: Library, statuses: Sequence[ImportPathStatus] | None) -> str | None:
        if statuses is not None:
            return find_offline_reason(statuses)
        return f"{', '.join(library.import_paths)}: does not answer"

    async def _record_offline(self, library: Library, reason: str | None) -> None:
        if await self._catalog.libraries.set_state(library.id, LibraryState.UNMOUNTED, reason):
            log.error("a library is not mounted, or cannot be read", library=library.name, reason=reason)

    async def _handle_offline(self, library: Library, reason: str | None) -> None:
        await self._record_offline(library, reason)
        self._stop_watching()
        self._watched_setup = None
        self._retry_due = 0.0

    async def _handle_return(self, library: Library) -> None:
        """The import paths can be read again: scans, to see whether the files are back, too."""
        if time.monotonic() < self._retry_due:
            return
        self._retry_due = time.monotonic() + RETRY_SECONDS
        report, _ = await self._scan(library.id, None, None)
        if report.refused is None:
            log.info("a library is mounted again", library=library.name, found=report.found)

    async def _start_watching(self, library: Library, statuses: Sequence[ImportPathStatus]) -> None:
        """Sets up the watch first, then scans everything, so that no change falls between."""
        self._stop_watching()
        network_reason = next(
            (f"{status.path} is on {status.network_fs_type}" for status in statuses if status.network_fs_type), None
        )
        if network_reason is not None:
            await self._fall_back_to_polling(library, network_reason)
            return
        watch = self._watch = FolderEventReader()
        try:
            await watch.open(
                [status.path for status in statuses],
                ExclusionRules(library.exclusion_patterns),
                self._policy.reserved_folders,
            )
        except WatchUnavailable as error:
            await self._fall_back_to_polling(library, str(error))
            return
        await self._record_watch_mode(library, "events of the system")
        await self._scan_whole_library(library)

    async def _fall_back_to_polling(self, library: Library, reason: str) -> None:
        self._close_watch()
        self._poll_due = 0.0
        mode = f"every {self._policy.poll_seconds:g} seconds: {reason}"
        if library.watch != mode:
            log.warning("a library can not be watched and is polled", library=library.name, how=mode)
        await self._record_watch_mode(library, mode)

    async def _process_due(self, library: Library, until: float) -> None:
        """One round: reads events and scans settled folders, or polls if that is due."""
        if self._watch is None:
            wake_at = until if not self._is_polling else min(until, self._poll_due)
            await asyncio.sleep(max(0.0, wake_at - time.monotonic()))
            if self._is_polling and time.monotonic() >= self._poll_due:
                began = time.monotonic()
                await self._scan_whole_library(library)
                # A tree that takes long to scan is not scanned all the time.
                self._poll_due = time.monotonic() + max(self._policy.poll_seconds, 5 * (time.monotonic() - began))
            return
        try:
            changed = await self._watch.read_changed_paths()
        except WatchLost as error:
            log.info("the watch of a library is set up again", library=library.name, reason=str(error))
            self._stop_watching()
            self._watched_setup = None
            return
        except WatchUnavailable as error:
            await self._fall_back_to_polling(library, str(error))
            return
        if changed:
            loop = asyncio.get_running_loop()
            scopes = await loop.run_in_executor(self._executor, find_changed_scopes, changed, library.import_paths)
            self._pending.add(scopes, time.monotonic())
        await self._scan_settled_folders(library)

    @property
    def _is_polling(self) -> bool:
        return self._policy.is_enabled and self._watched_setup is not None and self._watch is None

    async def _scan_settled_folders(self, library: Library) -> None:
        is_full_scan_due = (
            not self._pending and self._full_scan_due is not None and time.monotonic() >= self._full_scan_due
        )
        if is_full_scan_due or len(self._pending) > MAX_PENDING_FOLDERS:
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
        # Scanned again soon, since the offline guard compares with the last complete scan; but not all the time, where a scan takes long.
        self._full_scan_due = ended + 5 * (ended - began) if unsettled else None

    def _stop_watching(self) -> None:
        self._close_watch()
        self._pending.clear()

    def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    async def _record_watch_mode(self, library: Library, mode: str | None) -> None:
        await self._catalog.libraries.set_watch_status(library.id, mode)
