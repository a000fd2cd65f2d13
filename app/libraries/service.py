"""External libraries: creates, changes, removes, scans and monitors them, and reports whether their folders are mounted.

One process of the installation, elected by an advisory lock, monitors all libraries (see `watching.monitor`). Any process can scan on demand;
a lock for each library admits one scan at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, CatalogUnavailable, LibraryChanged
from app.catalog.schema.library_records import Library, LibraryChanges, LibraryState, ScanReport
from app.config import Settings
from app.health.mount_states import MountCondition, MountKind, MountState
from app.libraries.errors import ForeignLibrary, InvalidLibrary, LibraryError, ScanRunning, UnknownLibrary
from app.libraries.executors import LibraryExecutors
from app.libraries.import_paths.link_roots import SetLinkRoots, update_link_roots
from app.libraries.import_paths.probe import read_disk_space
from app.libraries.import_paths.reserved_folders import list_read_folders, list_reserved_folders
from app.libraries.import_paths.validation import MAX_IMPORT_PATHS, CheckedPath, check_import_paths
from app.libraries.patterns.exclusions import check_pattern
from app.libraries.patterns.globs import InvalidPattern
from app.libraries.scanning.scan import LibraryScan, OnScanProgress, find_offline_reason, probe_library
from app.libraries.scanning.scan_schedule import next_scan_at
from app.libraries.scanning.walk import ScanScope
from app.libraries.watching.monitor import LibraryMonitor, WatchPolicy

LEADER_CHECK_SECONDS = 5.0
"""How often the leader checks for new libraries and for the loss of its lock, and how often other processes try to become the leader."""
SCAN_LOCK_POLL_SECONDS = 0.5
PATHS_LOCK_SECONDS = 30.0
"""How long a change of import paths waits for another one."""
PATHS_LOCK_POLL_SECONDS = 0.05
REMOVAL_BATCH = 500
PROBE_SECONDS = 3.0
CHECK_SECONDS = 10.0
"""How long the check of new import paths may take before their disk counts as hung."""

log = structlog.get_logger(__name__)


class LibraryService:
    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        *,
        set_link_roots: SetLinkRoots = lambda _: None,
        on_files_deleted: Callable[[], None] = lambda: None,
        on_asset_added: Callable[[UUID], None] | None = None,
    ) -> None:
        """`set_link_roots` is called with the import paths of all libraries when this process changes them. `on_files_deleted` is called after
        assets were removed, whose derivatives the sweeper can delete then. `on_asset_added` is called with each asset that has a new task."""
        self._catalog = catalog
        self._settings = settings
        self._set_link_roots = set_link_roots
        self._on_files_deleted = on_files_deleted
        self._on_asset_added = on_asset_added
        self._reserved_folders = list_reserved_folders(settings)
        self._executors = LibraryExecutors()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scanning: set[UUID] = set()
        self._requested_scans: dict[UUID, bool] = {}
        """Scans that were requested and have not begun; the value is their `accept_missing`."""
        self._removing: set[UUID] = set()
        self._unmounted: dict[UUID, Library] = {}
        self._unmounted_until = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Monitors the libraries until the block ends, if no other process does. At the end cancels all background tasks and waits for them."""
        leading = asyncio.create_task(self._run_as_leader(), name="libraries")
        try:
            yield self
        finally:
            tasks = [leading, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.close()

    def close(self) -> None:
        """For callers that do not use `running`. Does not wait for threads: one may hang on a dead disk."""
        self._executors.close()

    # Create, update, remove

    async def create(
        self, owner_id: UUID, name: str, import_paths: Sequence[str], exclusion_patterns: Sequence[str]
    ) -> Library:
        """Raises `InvalidLibrary`, `NotFound` for an unknown owner."""
        patterns = tuple(dict.fromkeys(exclusion_patterns))
        async with self._lock_import_paths():
            paths = await self._validate(import_paths, exclusion_patterns, None)
            created = await self._catalog.libraries.create(owner_id, name, paths, patterns)
        await update_link_roots(self._catalog, self._set_link_roots)
        return created

    async def update(self, library_id: UUID, changes: LibraryChanges) -> Library | None:
        """None where there is no such library. Raises `InvalidLibrary`."""
        async with self._lock_import_paths():
            library = await self._catalog.libraries.get(library_id)
            if library is None:
                return None
            # Patterns that are not changed are not checked: older versions accepted some that are refused now.
            patterns = changes.get("exclusion_patterns", ())
            if "import_paths" in changes:
                changes = {
                    **changes,
                    "import_paths": await self._validate(changes["import_paths"], patterns, library_id),
                }
            else:
                _check_patterns(patterns)
            changed = await self._catalog.libraries.update(library_id, changes)
        await update_link_roots(self._catalog, self._set_link_roots)
        return changed

    @asynccontextmanager
    async def _lock_import_paths(self) -> AsyncIterator[None]:
        """Holds the lock under which import paths of any library are checked and stored, so that no two changes overlap unseen.
        Raises `CatalogUnavailable` if another process holds it for more than `PATHS_LOCK_SECONDS`, for instance on a hung disk."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(PATHS_LOCK_SECONDS):
                    await stack.enter_async_context(self._wait_for_lock("library-paths", PATHS_LOCK_POLL_SECONDS))
            except TimeoutError:
                raise CatalogUnavailable("the import paths of another library are being checked") from None
            yield

    async def check_import_paths(self, import_paths: Sequence[str], library_id: UUID | None) -> list[CheckedPath]:
        """Checks each path as an import path of that library (None: of a new one). Raises `InvalidLibrary` if a disk does not answer."""
        reserved = [
            *self._reserved_folders,
            *await list_read_folders(self._catalog, except_library=library_id),
        ]
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._executors.shared_executor, check_import_paths, import_paths, reserved)
        done, _ = await asyncio.wait([check], timeout=CHECK_SECONDS)
        if not done:
            check.cancel()
            raise InvalidLibrary("importPaths: a disk does not answer")
        return check.result()

    async def remove(self, library_id: UUID) -> bool:
        """Removes the library's rows and derivatives in the background; its files are not touched. False if there is no such library."""
        if not await self._catalog.libraries.mark_for_removal(library_id):
            return False
        self._start_task(self._removing, library_id, self._remove_marked)
        return True

    async def remove_and_wait(self, library_id: UUID) -> int:
        """As `remove`, but waits for the end. Returns the number of removed assets."""
        await self._catalog.libraries.mark_for_removal(library_id)
        return await self._remove_marked(library_id)

    # Scans

    def start_scan(self, library_id: UUID, *, accept_missing: bool = False) -> None:
        """Scans in the background of this process. While a scan runs, which may have passed the folders in question already, another one is
        queued; requests that come before it begins are merged into it."""
        self._requested_scans[library_id] = self._requested_scans.get(library_id, False) or accept_missing
        self._start_task(self._scanning, library_id, self._run_requested_scans)

    def is_scanning(self, library_id: UUID) -> bool:
        """Whether a scan that was requested of this process by `start_scan` runs or waits."""
        return library_id in self._scanning

    async def scan(
        self, library_id: UUID, *, accept_missing: bool = False, on_progress: OnScanProgress | None = None
    ) -> ScanReport:
        """Scans the whole library. Raises `ScanRunning`, `UnknownLibrary`, `CatalogError`."""
        async with self._catalog.try_lock(_scan_lock_name(library_id)) as lock:
            if lock is None:
                raise ScanRunning("the library is being scanned already")
            report, _ = await self._run_scan(library_id, accept_missing=accept_missing, on_progress=on_progress)
            return report

    async def _run_requested_scans(self, library_id: UUID) -> None:
        try:
            while library_id in self._requested_scans:
                async with self._lock_scan(library_id):
                    accept_missing = self._requested_scans.pop(library_id)
                    with self._log_failures(library_id):
                        await self._run_and_log(library_id, accept_missing=accept_missing)
        finally:
            self._requested_scans.pop(library_id, None)

    async def _scan_when_unlocked(
        self, library_id: UUID, scopes: Sequence[ScanScope] | None, settled_before: float | None
    ) -> tuple[ScanReport, set[str]]:
        """Waits for the end of another scan of the library, then scans it."""
        async with self._lock_scan(library_id):
            return await self._run_and_log(library_id, scopes=scopes, settled_before=settled_before)

    def _lock_scan(self, library_id: UUID) -> AbstractAsyncContextManager[None]:
        """Holds the library's scan lock; waits while another process or task holds it."""
        return self._wait_for_lock(_scan_lock_name(library_id), SCAN_LOCK_POLL_SECONDS)

    @asynccontextmanager
    async def _wait_for_lock(self, name: str, pause: float) -> AsyncIterator[None]:
        """Holds the advisory lock `name`, which is tried every `pause` seconds until it is free."""
        while True:
            async with self._catalog.try_lock(name) as lock:
                if lock is not None:
                    yield
                    return
            await asyncio.sleep(pause)

    async def _run_and_log(
        self,
        library_id: UUID,
        *,
        scopes: Sequence[ScanScope] | None = None,
        settled_before: float | None = None,
        accept_missing: bool = False,
    ) -> tuple[ScanReport, set[str]]:
        report, unsettled = await self._run_scan(
            library_id, scopes=scopes, settled_before=settled_before, accept_missing=accept_missing
        )
        _log_scan_report(library_id, report)
        return report, unsettled

    async def _run_scan(
        self,
        library_id: UUID,
        *,
        scopes: Sequence[ScanScope] | None = None,
        settled_before: float | None = None,
        accept_missing: bool = False,
        on_progress: OnScanProgress | None = None,
    ) -> tuple[ScanReport, set[str]]:
        """Restarts the scan if import paths or patterns are changed during it. Raises `UnknownLibrary`, `ForeignLibrary`. Returns the report, and the folders with
        files that are still being written."""
        while (library := await self._catalog.libraries.get(library_id)) is not None:
            if library.is_foreign:
                raise ForeignLibrary(
                    f"Immich scans the library {library.name!r}: `mediavault immich follow` reads its rows"
                )
            scan = LibraryScan(
                self._catalog,
                library,
                self._executors.get_executor(library_id),
                accept_missing=accept_missing,
                scopes=scopes,
                settled_before=settled_before,
                on_progress=on_progress,
                on_asset_added=self._on_asset_added,
                reserved_folders=self._reserved_folders,
            )
            try:
                report = await scan.run()
            except LibraryChanged:
                continue
            self._unmounted_until = 0.0
            return report, scan.unsettled_folders
        raise UnknownLibrary(f"there is no library {library_id}")

    # Mount states

    async def list_mount_states(self) -> list[MountState]:
        """The state of every library, as the monitoring process last stored it."""
        libraries = [each for each in await self._catalog.libraries.list() if each.deleted_at is None]
        return list(await asyncio.gather(*map(self._read_mount_state, libraries)))

    async def explain_missing_file(self, library_id: UUID) -> str | None:
        """Why an original of this library may be missing although it was not deleted: unmounted, or the disk hangs. None if neither."""
        if time.monotonic() >= self._unmounted_until:
            self._unmounted = await self._catalog.libraries.get_unmounted()
            self._unmounted_until = time.monotonic() + PROBE_SECONDS
        library = self._unmounted.get(library_id) or await self._catalog.libraries.get(library_id)
        if library is None:
            return None
        if library.state is LibraryState.UNMOUNTED:
            return f"The external library {library.name!r} is not mounted"
        executor = self._executors.get_executor(library_id)
        statuses = await self._executors.run_single_flight(
            ("probe", library_id),
            lambda: probe_library(self._catalog, library, executor, self._reserved_folders),
            PROBE_SECONDS,
        )
        if statuses is None:
            return f"The external library {library.name!r} does not answer"
        return (
            f"The external library {library.name!r} is not mounted"
            if find_offline_reason(statuses) is not None
            else None
        )

    async def _read_mount_state(self, library: Library) -> MountState:
        is_ok = library.state is LibraryState.OK
        free, total = await self._read_disk_space(library) if is_ok and library.import_paths else (None, None)
        return MountState(
            name=library.name,
            kind=MountKind.LIBRARY,
            state=MountCondition.OK if is_ok else MountCondition.UNMOUNTED,
            since=library.state_since,
            error=library.state_error,
            free_bytes=free,
            total_bytes=total,
        )

    async def _read_disk_space(self, library: Library) -> tuple[int | None, int | None]:
        """Free and total bytes; None if the disk does not answer."""
        path, loop = library.import_paths[0], asyncio.get_running_loop()

        async def measure() -> tuple[int | None, int | None]:
            return await loop.run_in_executor(self._executors.get_executor(library.id), read_disk_space, path)

        return await self._executors.run_single_flight(("disk space", path), measure, PROBE_SECONDS) or (None, None)

    # Monitoring

    async def _run_as_leader(self) -> None:
        while True:
            try:
                async with self._catalog.try_lock("libraries") as lock:
                    if lock is not None:
                        await self._monitor_all(lock.is_held)
            except CatalogError as error:
                if not self._catalog.outages.record_failure(error):
                    log.warning("the libraries are not monitored for now", reason=str(error))
            except Exception:
                log.exception("monitoring the libraries failed")
            await asyncio.sleep(LEADER_CHECK_SECONDS)

    async def _monitor_all(self, is_held: Callable[[], Awaitable[bool]]) -> None:
        """Runs one monitor for each library and starts nightly scans, until the lock is lost."""
        monitors: dict[UUID, asyncio.Task[None]] = {}
        nightly = next_scan_at(self._settings.library_scan_at, datetime.now(UTC))
        try:
            while await is_held():
                libraries = await self._catalog.libraries.list()
                for library in libraries:
                    await self._ensure_monitor(library, monitors)
                if nightly is not None and datetime.now(UTC) >= nightly:
                    nightly = next_scan_at(self._settings.library_scan_at, datetime.now(UTC))
                    for library in libraries:
                        if library.deleted_at is None and not library.is_foreign:
                            self.start_scan(library.id)
                await asyncio.sleep(LEADER_CHECK_SECONDS)
        finally:
            for task in monitors.values():
                task.cancel()
            if monitors:
                await asyncio.wait(monitors.values())

    async def _ensure_monitor(self, library: Library, monitors: dict[UUID, asyncio.Task[None]]) -> None:
        monitor = monitors.get(library.id)
        if monitor is not None and monitor.done():
            if not monitor.cancelled() and (failure := monitor.exception()) is not None:
                log.error("monitoring a library failed", library=library.name, exc_info=failure)
            monitor = None
        if library.deleted_at is not None:
            self._start_task(self._removing, library.id, self._remove_marked)
        elif monitor is None and not library.is_foreign:
            settings = self._settings
            policy = WatchPolicy(
                settings.library_watch,
                settings.library_settle_seconds,
                settings.library_poll_seconds,
                self._reserved_folders,
            )
            monitor = LibraryMonitor(
                self._catalog, library.id, self._executors.get_executor(library.id), policy, self._scan_when_unlocked
            )
            monitors[library.id] = asyncio.create_task(monitor.run(), name=f"library {library.name}")

    async def _remove_marked(self, library_id: UUID) -> int:
        removed = 0
        library = next((each for each in await self._catalog.libraries.list() if each.id == library_id), None)
        while library is not None:
            # Another process may remove the same library.
            batch = await self._catalog.assets.delete_from_library(library.owner_id, library_id, REMOVAL_BATCH)
            if batch == 0:
                await self._catalog.libraries.delete_marked(library_id)
                self._executors.remove(library_id)
                break
            removed += batch
            self._on_files_deleted()
        return removed

    def _start_task(self, busy: set[UUID], library_id: UUID, work: Callable[[UUID], Awaitable[object]]) -> None:
        """Runs `work` in the background, unless the same work on this library is running (`busy`)."""
        if library_id in busy:
            return
        busy.add(library_id)
        task = asyncio.create_task(self._run_task(busy, library_id, work), name=f"library {library_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, busy: set[UUID], library_id: UUID, work: Callable[[UUID], Awaitable[object]]) -> None:
        try:
            with self._log_failures(library_id):
                await work(library_id)
        finally:
            busy.discard(library_id)

    @contextmanager
    def _log_failures(self, library_id: UUID) -> Iterator[None]:
        """Logs errors of background work, since no caller awaits it."""
        try:
            yield
        except (CatalogError, LibraryError) as error:
            if not self._catalog.outages.record_failure(error):
                log.warning("background work on a library failed", library=str(library_id), reason=str(error))
        except Exception:
            log.exception("work on a library failed", library=str(library_id))

    async def _validate(
        self, import_paths: Sequence[str], exclusion_patterns: Sequence[str], library_id: UUID | None
    ) -> tuple[str, ...]:
        _check_patterns(exclusion_patterns)
        if len(import_paths) > MAX_IMPORT_PATHS:
            raise InvalidLibrary(f"importPaths: more than {MAX_IMPORT_PATHS}")
        checked = await self.check_import_paths(import_paths, library_id)
        faults = [each.rejection_reason for each in checked if each.rejection_reason is not None]
        if faults:
            raise InvalidLibrary(f"importPaths: {'; '.join(faults)}")
        return tuple(each.path for each in checked)


def _check_patterns(patterns: Sequence[str]) -> None:
    if len(patterns) > MAX_IMPORT_PATHS:
        raise InvalidLibrary(f"exclusionPatterns: more than {MAX_IMPORT_PATHS}")
    faults: list[str] = []
    for pattern in patterns:
        try:
            check_pattern(pattern)
        except InvalidPattern as error:
            faults.append(f"{pattern[:100]!r} {error}")
    if faults:
        raise InvalidLibrary(f"exclusionPatterns: {'; '.join(faults)}")


def _scan_lock_name(library_id: UUID) -> str:
    return f"library-{library_id}"


def _log_scan_report(library_id: UUID, report: ScanReport) -> None:
    library = str(library_id)
    if report.refused is not None:
        log.error("a library looks unmounted: nothing of it goes to the trash", library=library, reason=report.refused)
    if report.unreadable_count:
        first = list(report.unreadable[:10])
        log.warning(
            "parts of a library could not be indexed", library=library, count=report.unreadable_count, first=first
        )
    did = {name: getattr(report, name) for name in ("new", "changed", "renamed", "back", "trashed")}
    if any(did.values()):
        log.info("library scanned", library=library, found=report.found, seconds=report.seconds, **did)
