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
from app.catalog.library_records import Library, LibraryState, ScanReport
from app.libraries.apart import Place
from app.libraries.errors import LibraryError
from app.libraries.exclusions import Exclusions
from app.libraries.scan import look_at, reason_of
from app.libraries.sight import RootSight
from app.libraries.walk import Scope
from app.libraries.watch import MOST_PENDING, Pending, Watch, WatchUnavailable, scopes_of
from app.libraries.watched import WatchLost

LOOK_SECONDS = 5.0
"""How often a library's folders are looked at, and how long a disk may take to answer."""
RETRY_SECONDS = 120.0
"""How often a library is scanned again of which too much was missing."""

log = structlog.get_logger(__name__)

ScanNow = Callable[[UUID, Sequence[Scope] | None, float | None], Awaitable[tuple[ScanReport, set[str]]]]
"""Scans the library: all of it, or some folders; with files that changed after a moment left out. Returns the report, and folders with
such files."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to watch; `settle` and `poll` in seconds. `own` are mediavault's folders."""

    watch: bool
    settle: float
    poll: float
    own: tuple[Place, ...] = ()


class Keeper:
    def __init__(self, catalog: Catalog, library_id: UUID, threads: Executor, manner: Manner, scan: ScanNow) -> None:
        self._catalog = catalog
        self._library_id = library_id
        self._threads = threads
        self._manner = manner
        self._scan = scan
        self._watch: Watch | None = None
        self._pending = Pending(manner.settle)
        self._standing: object = None
        """What the watch was set on: other paths or other disks need another one."""
        self._poll_due = 0.0
        self._retry_due = 0.0
        self._complete_due: float | None = None
        """When to look through everything again, at the earliest: the last time some files were still being written."""
        self._looking: asyncio.Task[list[RootSight]] | None = None

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
                    await self._keep(library)
                except (CatalogError, LibraryError) as error:
                    if not self._catalog.outages.covers(error):
                        log.warning("a library could not be looked at", library=name, reason=str(error))
                    self._standing = None  # what was to be looked at then is found by looking through everything
                    await asyncio.sleep(1.0)
        finally:
            self._unwatch()
            if self._looking is not None:
                self._looking.cancel()

    async def _keep(self, library: Library) -> None:
        """Look once, then follow events until it is time to look again."""
        roots = await self._look(library)
        reason = self._why_away(library, roots)
        if roots is None or reason is not None:
            await self._away(library, reason)
            if roots is not None:
                await asyncio.sleep(LOOK_SECONDS)
            return
        if library.state is LibraryState.UNMOUNTED:
            await self._returned(library)
        if library.watch is not None and not self._manner.watch:
            await self._note(library, None)
        standing = (library.import_paths, library.exclusion_patterns, tuple((root.key, root.mounts) for root in roots))
        await self._watched_over(library, self._work(library, roots, standing))

    async def _work(self, library: Library, roots: Sequence[RootSight], standing: object) -> None:
        if self._manner.watch and standing != self._standing:
            await self._set_watch(library, roots)
            self._standing = standing
        until = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < until:
            await self._follow(library, until)

    async def _watched_over(self, library: Library, work: Coroutine[Any, Any, None]) -> None:
        """Do what may have to wait for the disk, and notice meanwhile when that does not answer any more."""
        working = asyncio.create_task(work)
        try:
            while not (await asyncio.wait([working], timeout=2 * LOOK_SECONDS))[0]:
                reason = self._why_away(library, await self._look(library))
                if reason is not None:
                    await self._note_away(library, reason)
        finally:
            working.cancel()
            await asyncio.wait([working])
        working.result()

    async def _look(self, library: Library) -> list[RootSight] | None:
        """None where a disk does not answer; it is not asked again before it has."""
        if self._looking is None:
            self._looking = asyncio.create_task(look_at(self._catalog, library, self._threads, self._manner.own))
        done, _ = await asyncio.wait([self._looking], timeout=LOOK_SECONDS)
        if not done:
            return None
        looked, self._looking = self._looking, None
        return looked.result()

    @staticmethod
    def _why_away(library: Library, roots: Sequence[RootSight] | None) -> str | None:
        if roots is not None:
            return reason_of(roots)
        return f"{', '.join(library.import_paths)}: does not answer"

    async def _note_away(self, library: Library, reason: str | None) -> None:
        if await self._catalog.libraries.set_state(library.id, LibraryState.UNMOUNTED, reason):
            log.error("a library is not there", library=library.name, reason=reason)

    async def _away(self, library: Library, reason: str | None) -> None:
        await self._note_away(library, reason)
        self._unwatch()
        self._standing = None
        self._retry_due = 0.0

    async def _returned(self, library: Library) -> None:
        """Its folders are there again: see whether its files are, too."""
        if time.monotonic() < self._retry_due:
            return
        self._retry_due = time.monotonic() + RETRY_SECONDS
        report, _ = await self._scan(library.id, None, None)
        if report.refused is None:
            log.info("a library is there again", library=library.name, found=report.found)

    async def _set_watch(self, library: Library, roots: Sequence[RootSight]) -> None:
        """Watch first, then look through everything: nothing falls between."""
        self._unwatch()
        network = next((f"{root.path} is on {root.network}" for root in roots if root.network), None)
        if network is not None:
            await self._poll_instead(library, network)
            return
        watch = self._watch = Watch()
        try:
            await watch.open([root.path for root in roots], Exclusions(library.exclusion_patterns), self._manner.own)
        except WatchUnavailable as error:
            await self._poll_instead(library, str(error))
            return
        await self._note(library, "events of the system")
        await self._look_through(library)

    async def _poll_instead(self, library: Library, reason: str) -> None:
        self._close_watch()
        self._poll_due = 0.0
        how = f"every {self._manner.poll:g} seconds: {reason}"
        if library.watch != how:
            log.warning("a library can not be watched and is polled", library=library.name, how=how)
        await self._note(library, how)

    async def _follow(self, library: Library, until: float) -> None:
        """What is due: one round of events, of settled folders or of polling."""
        if self._watch is None:
            pause = until if not self._polls else min(until, self._poll_due)
            await asyncio.sleep(max(0.0, pause - time.monotonic()))
            if self._polls and time.monotonic() >= self._poll_due:
                began = time.monotonic()
                await self._look_through(library)
                # A tree that takes long to look through is not looked through all the time.
                self._poll_due = time.monotonic() + max(self._manner.poll, 5 * (time.monotonic() - began))
            return
        try:
            changed = await self._watch.changed()
        except WatchLost as lost:
            log.info("a library is to be watched anew", library=library.name, reason=str(lost))
            self._unwatch()
            self._standing = None
            return
        except WatchUnavailable as error:
            await self._poll_instead(library, str(error))
            return
        if changed:
            loop = asyncio.get_running_loop()
            scopes = await loop.run_in_executor(self._threads, scopes_of, changed, library.import_paths)
            self._pending.add(scopes, time.monotonic())
        await self._take_settled(library)

    @property
    def _polls(self) -> bool:
        return self._manner.watch and self._standing is not None and self._watch is None

    async def _take_settled(self, library: Library) -> None:
        rests = not self._pending and self._complete_due is not None and time.monotonic() >= self._complete_due
        if rests or len(self._pending) > MOST_PENDING:
            await self._look_through(library)
        elif due := self._pending.take(time.monotonic()):
            _, unsettled = await self._scan(library.id, due, time.time() - self._manner.settle)
            self._pending.add([(folder, False) for folder in unsettled], time.monotonic())

    async def _look_through(self, library: Library) -> None:
        self._pending.clear()
        began = time.monotonic()
        _, unsettled = await self._scan(library.id, None, time.time() - self._manner.settle)
        ended = time.monotonic()
        self._pending.add([(folder, False) for folder in unsettled], ended)
        # Only a complete scan is what later losses are measured by; but not all the time, where a tree takes long to look through.
        self._complete_due = ended + 5 * (ended - began) if unsettled else None

    def _unwatch(self) -> None:
        self._close_watch()
        self._pending.clear()

    def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    async def _note(self, library: Library, how: str | None) -> None:
        await self._catalog.libraries.note_watch(library.id, how)
