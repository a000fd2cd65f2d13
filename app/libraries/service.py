"""The entrance to external libraries: their making and removal, scans on demand and by night, and whether their folders are there.

One process of the installation keeps all libraries (see `keeper`); any process scans on demand, one at a time for each library.
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
from app.health.markers import MEDIA_FOLDERS
from app.health.mount_states import MountCondition, MountKind, MountState
from app.libraries.errors import InvalidLibrary, LibraryError, ScanRunning, UnknownLibrary
from app.libraries.executors import LibraryExecutors
from app.libraries.import_paths.link_roots import SetLinkRoots, update_link_roots
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.import_paths.probe import read_disk_space
from app.libraries.import_paths.validation import MAX_IMPORT_PATHS, CheckedPath, check_import_paths
from app.libraries.patterns.exclusions import check_pattern
from app.libraries.patterns.globs import InvalidPattern
from app.libraries.scanning.scan import LibraryScan, OnScanProgress, find_offline_reason, probe_library
from app.libraries.scanning.scan_schedule import next_scan_at
from app.libraries.scanning.walk import ScanScope
from app.libraries.watching.monitor import LibraryMonitor, WatchPolicy

LEADER_CHECK_SECONDS = 5.0
"""How often the process that keeps the libraries looks whether there are others, and whether it is still the one."""
SCAN_LOCK_POLL_SECONDS = 0.5
PATHS_LOCK_SECONDS = 30.0
"""How long new import paths wait for others that are being checked."""
PATHS_LOCK_POLL_SECONDS = 0.05
REMOVAL_BATCH = 500
PROBE_SECONDS = 3.0
CHECK_SECONDS = 10.0
"""How long the disks of new import paths may take to answer."""

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
        """`set_link_roots` is told the import paths of all libraries when they change here, `on_files_deleted` is called when files are there to be swept, `on_asset_added` of each asset that is
        to be processed."""
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
        """Scans that were asked for and have not begun; whether a person accepts what is missing."""
        self._removing: set[UUID] = set()
        self._unmounted: dict[UUID, Library] = {}
        self._unmounted_until = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Keeps the libraries, if no other process does; ends, and waits for the end of what it began, with the block."""
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
        """For who does not use `running`. A thread that waits for a disk is not waited for."""
        self._executors.close()

    # What libraries there are

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
            # Those that it has need not be right: older versions took some that are refused now.
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
        """No process changes the import paths of any library meanwhile: between the check of new ones and the moment they are kept.
        Raises `CatalogUnavailable` where another one does not come to an end, whose disk may not answer."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(PATHS_LOCK_SECONDS):
                    await stack.enter_async_context(self._wait_for_lock("library-paths", PATHS_LOCK_POLL_SECONDS))
            except TimeoutError:
                raise CatalogUnavailable("the import paths of another library are being checked") from None
            yield

    async def check_import_paths(self, import_paths: Sequence[str], library_id: UUID | None) -> list[CheckedPath]:
        """Which of these may be import paths of that library (None: of a new one). Raises `InvalidLibrary` where a disk does not answer."""
        taken = list(self._reserved_folders)
        for library in await self._catalog.libraries.list():
            if library.id != library_id:
                name, away = f"an import path of the library {library.name!r}", library.state is LibraryState.UNMOUNTED
                taken += [ReservedFolder(name, path, is_offline=away) for path in library.import_paths]
        loop = asyncio.get_running_loop()
        checking = loop.run_in_executor(self._executors.shared_executor, check_import_paths, import_paths, taken)
        done, _ = await asyncio.wait([checking], timeout=CHECK_SECONDS)
        if not done:
            checking.cancel()
            raise InvalidLibrary("importPaths: a disk does not answer")
        return checking.result()

    async def remove(self, library_id: UUID) -> bool:
        """Rows and derivatives go, in the background; the library's files are not touched. False where there is no such library."""
        if not await self._catalog.libraries.mark_for_removal(library_id):
            return False
        self._start_task(self._removing, library_id, self._remove_marked)
        return True

    async def remove_and_wait(self, library_id: UUID) -> int:
        """As `remove`, and waits for the end; how many assets there were."""
        await self._catalog.libraries.mark_for_removal(library_id)
        return await self._remove_marked(library_id)

    # Scans

    def start_scan(self, library_id: UUID, *, accept_missing: bool = False) -> None:
        """In the background of this process. While one runs, which may have passed by what is to be looked at, another one will follow it;
        it stands for all that are asked for before it begins."""
        self._requested_scans[library_id] = self._requested_scans.get(library_id, False) or accept_missing
        self._start_task(self._scanning, library_id, self._run_requested_scans)

    async def scan(
        self, library_id: UUID, *, accept_missing: bool = False, on_progress: OnScanProgress | None = None
    ) -> ScanReport:
        """Raises `ScanRunning`, `UnknownLibrary`."""
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
                    with self._failing_loudly(library_id):
                        await self._run_and_log(library_id, accept_missing=accept_missing)
        finally:
            self._requested_scans.pop(library_id, None)

    async def _scan_when_unlocked(
        self, library_id: UUID, scopes: Sequence[ScanScope] | None, settled_before: float | None
    ) -> tuple[ScanReport, set[str]]:
        """Wait for whoever scans the library, then scan it."""
        async with self._lock_scan(library_id):
            return await self._run_and_log(library_id, scopes=scopes, settled_before=settled_before)

    def _lock_scan(self, library_id: UUID) -> AbstractAsyncContextManager[None]:
        """Nobody else scans the library meanwhile; waits for whoever does."""
        return self._wait_for_lock(_scan_lock_name(library_id), SCAN_LOCK_POLL_SECONDS)

    @asynccontextmanager
    async def _wait_for_lock(self, name: str, pause: float) -> AsyncIterator[None]:
        """With the lock of that name, which is asked for again and again."""
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
        """Begins anew where other files were made to belong to the library meanwhile."""
        while (library := await self._catalog.libraries.get(library_id)) is not None:
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

    # Whether the folders are there

    async def list_mount_states(self) -> list[MountState]:
        """Of every library, as the process that keeps them last saw it."""
        libraries = [each for each in await self._catalog.libraries.list() if each.deleted_at is None]
        return list(await asyncio.gather(*map(self._read_mount_state, libraries)))

    async def find_missing_reason(self, library_id: UUID) -> str | None:
        """Why an original of this library may not be found although it was not deleted; None where there is no such reason."""
        if time.monotonic() >= self._unmounted_until:
            self._unmounted = await self._catalog.libraries.get_unmounted()
            self._unmounted_until = time.monotonic() + PROBE_SECONDS
        library = self._unmounted.get(library_id) or await self._catalog.libraries.get(library_id)
        if library is None:
            return None
        if library.state is LibraryState.UNMOUNTED:
            return f"The external library {library.name!r} is not mounted"
        lane = self._executors.get_executor(library_id)
        roots = await self._executors.run_single_flight(
            ("sight", library_id),
            lambda: probe_library(self._catalog, library, lane, self._reserved_folders),
            PROBE_SECONDS,
        )
        if roots is None:
            return f"The external library {library.name!r} does not answer"
        return (
            f"The external library {library.name!r} is not mounted" if find_offline_reason(roots) is not None else None
        )

    async def _read_mount_state(self, library: Library) -> MountState:
        sound = library.state is LibraryState.OK
        free, total = await self._read_disk_space(library) if sound and library.import_paths else (None, None)
        return MountState(
            name=library.name,
            kind=MountKind.LIBRARY,
            state=MountCondition.OK if sound else MountCondition.UNMOUNTED,
            since=library.state_since,
            error=library.state_error,
            free_bytes=free,
            total_bytes=total,
        )

    async def _read_disk_space(self, library: Library) -> tuple[int | None, int | None]:
        """Free and total bytes, None where the disk does not answer."""
        path, loop = library.import_paths[0], asyncio.get_running_loop()

        async def measure() -> tuple[int | None, int | None]:
            return await loop.run_in_executor(self._executors.get_executor(library.id), read_disk_space, path)

        return await self._executors.run_single_flight(("room", path), measure, PROBE_SECONDS) or (None, None)

    # Keeping them

    async def _run_as_leader(self) -> None:
        while True:
            try:
                async with self._catalog.try_lock("libraries") as lock:
                    if lock is not None:
                        await self._monitor_all(lock.is_held)
            except CatalogError as error:
                if not self._catalog.outages.covers(error):
                    log.warning("the libraries are not kept for now", reason=str(error))
            except Exception:
                log.exception("keeping the libraries failed")
            await asyncio.sleep(LEADER_CHECK_SECONDS)

    async def _monitor_all(self, held: Callable[[], Awaitable[bool]]) -> None:
        """Until the lock is lost."""
        keepers: dict[UUID, asyncio.Task[None]] = {}
        nightly = next_scan_at(self._settings.library_scan_at, datetime.now(UTC))
        try:
            while await held():
                libraries = await self._catalog.libraries.list()
                for library in libraries:
                    await self._ensure_monitor(library, keepers)
                if nightly is not None and datetime.now(UTC) >= nightly:
                    nightly = next_scan_at(self._settings.library_scan_at, datetime.now(UTC))
                    for library in libraries:
                        if library.deleted_at is None:
                            self.start_scan(library.id)
                await asyncio.sleep(LEADER_CHECK_SECONDS)
        finally:
            for task in keepers.values():
                task.cancel()
            if keepers:
                await asyncio.wait(keepers.values())

    async def _ensure_monitor(self, library: Library, keepers: dict[UUID, asyncio.Task[None]]) -> None:
        keeper = keepers.get(library.id)
        if keeper is not None and keeper.done():
            if not keeper.cancelled() and (failure := keeper.exception()) is not None:
                log.error("keeping a library failed", library=library.name, exc_info=failure)
            keeper = None
        if library.deleted_at is not None:
            self._start_task(self._removing, library.id, self._remove_marked)
        elif keeper is None:
            settings = self._settings
            manner = WatchPolicy(
                settings.library_watch,
                settings.library_settle_seconds,
                settings.library_poll_seconds,
                self._reserved_folders,
            )
            keeper = LibraryMonitor(
                self._catalog, library.id, self._executors.get_executor(library.id), manner, self._scan_when_unlocked
            )
            keepers[library.id] = asyncio.create_task(keeper.run(), name=f"library {library.name}")

    async def _remove_marked(self, library_id: UUID) -> int:
        removed = 0
        library = next((each for each in await self._catalog.libraries.list() if each.id == library_id), None)
        while library is not None:
            # Another process may be doing the same.
            batch = await self._catalog.assets.delete_from_library(library.owner_id, library_id, REMOVAL_BATCH)
            if batch == 0:
                await self._catalog.libraries.delete_marked(library_id)
                self._executors.remove(library_id)
                break
            removed += batch
            self._on_files_deleted()
        return removed

    def _start_task(self, busy: set[UUID], library_id: UUID, work: Callable[[UUID], Awaitable[object]]) -> None:
        """In the background; nothing where the same is being done already."""
        if library_id in busy:
            return
        busy.add(library_id)
        task = asyncio.create_task(self._run_task(busy, library_id, work), name=f"library {library_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, busy: set[UUID], library_id: UUID, work: Callable[[UUID], Awaitable[object]]) -> None:
        try:
            with self._failing_loudly(library_id):
                await work(library_id)
        finally:
            busy.discard(library_id)

    @contextmanager
    def _failing_loudly(self, library_id: UUID) -> Iterator[None]:
        """What goes wrong in the background is told in the log, for nobody waits for it."""
        try:
            yield
        except (CatalogError, LibraryError) as error:
            if not self._catalog.outages.covers(error):
                log.warning("a library could not be worked on", library=str(library_id), reason=str(error))
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


def list_reserved_folders(settings: Settings) -> tuple[ReservedFolder, ...]:
    """Where mediavault writes: each media folder by itself, too, since it may be a disk of its own."""
    media = settings.media_location
    return (
        ReservedFolder("the media location", str(media)),
        *(ReservedFolder(f"the media folder {name!r}", str(media / name)) for name in MEDIA_FOLDERS),
        ReservedFolder("the staging folder", str(settings.staging_folder)),
    )


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
            "parts of a library could not be taken in", library=library, count=report.unreadable_count, first=first
        )
    did = {name: getattr(report, name) for name in ("new", "changed", "renamed", "back", "trashed")}
    if any(did.values()):
        log.info("library scanned", library=library, found=report.found, seconds=report.seconds, **did)
