"""`migrate plan`: how much there is to move, how long that may take, and everything that is wrong with it before a byte is copied.

Changes nothing, but for the small test object that shows whether the target can be written. Both places are listed once, so that
a million files cost as many listings as the stores have pages, and constant memory.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.catalog.move_records import Candidate, MoveState
from app.catalog.records import File, FileKind
from app.migration.listing import Listing, listed
from app.migration.parallel import in_parallel
from app.migration.problems import (
    OCCUPIED,
    UNLISTED,
    UNRECORDED,
    Problem,
    ProblemKind,
    source_problem,
    target_problem,
    wrong_size,
)
from app.migration.reports import MOST_NAMED, Problems
from app.migration.route import require_intact
from app.migration.verification import find_fault, record_of
from app.migration.work import PAGE, Work, current
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.key import Key
from app.storage.service import Home

USUAL_RATE = 50 * 1024 * 1024
"""Bytes per second that an estimate counts with where no limit is set: half of a fast home line, less than most disks."""
REQUESTS_PER_FILE = 3
PROBE_REQUESTS = 3

_MOVED = (MoveState.COPIED, MoveState.VERIFIED)


@dataclass(frozen=True, slots=True)
class Plan:
    """`files` and `bytes` are still to be copied, `copied_files` are copied and not switched yet. `seconds`: an estimate.
    `by_kind`: files and bytes of each kind among those to be copied."""

    files: int
    bytes: int
    copied_files: int
    by_kind: dict[FileKind, tuple[int, int]]
    seconds: float
    problems: Problems
    notes: Sequence[str]


async def plan(work: Work) -> Plan:
    """Raises `MoveRefused`, `CatalogError`."""
    migration = await current(work)
    await require_intact(work.catalog, work.storage, work.route.source)
    planning = _Planning(work, None if migration is None else migration.id)
    latency = await planning.probe()
    if latency is not None:
        await planning.all()
    seconds = estimate(planning.files, planning.bytes, latency or 0.0, work.concurrency, work.bandwidth)
    notes = [] if work.storage.engine is work.to else [_engine_note(work)]
    return Plan(planning.files, planning.bytes, planning.copied, planning.by_kind, seconds, planning.problems, notes)


def estimate(files: int, size: int, latency: float, concurrency: int, bandwidth: int | None) -> float:
    """Seconds: the bytes at the limit, or at what is usual, and the requests of each file beside those of others."""
    return size / (bandwidth or USUAL_RATE) + files * REQUESTS_PER_FILE * latency / concurrency


def _engine_note(work: Work) -> str:
    return (
        f"IMMICH_STORAGE_ENGINE is still {work.storage.engine}: set it to {work.to} and restart the service before"
        f" `mediavault migrate run --to {work.to}`"
    )


class _Planning:
    def __init__(self, work: Work, migration_id: UUID | None) -> None:
        self._work = work
        self._migration_id = migration_id
        self.files = 0
        self.bytes = 0
        self.copied = 0
        self.by_kind: dict[FileKind, tuple[int, int]] = {}
        self.problems = Problems()

    async def probe(self) -> float | None:
        """Seconds for one request to the target; None where it cannot be written, which is a problem then."""
        target = self._work.route.target
        began = time.monotonic()
        try:
            await target.backend.probe()
        except StorageError as error:
            self.problems.add(target.area.base, str(target_problem(error)))
            return None
        return (time.monotonic() - began) / PROBE_REQUESTS

    async def all(self) -> None:
        source, target = self._work.route.source, self._work.route.target
        home = source
        try:
            async with listed(source, self._work.storage.staging) as here:
                home = target
                async with listed(target, self._work.storage.staging) as there:
                    for area, listing in ((source.area, here), (target.area, there)):
                        for folder in listing.refused:
                            self.problems.add(area.listed(folder), str(UNLISTED))
                    await in_parallel(self._checked(here, there), self._work.concurrency, self._look_at_target)
        except StorageError as error:
            self.problems.add(home.area.base, str(source_problem(error) if home is source else target_problem(error)))

    async def _checked(self, here: Listing, there: Listing) -> AsyncIterator[list[tuple[File, Key]]]:
        """Page by page what the listings tell. Gives those whose target is taken by as many bytes: those have to be looked at."""
        after: UUID | None = None
        base = self._work.route.source.area.base
        while True:
            page = await self._work.catalog.moves.candidates(
                base, self._migration_id, after=after, limit=PAGE, filters=self._work.filters
            )
            taken = await self._check_page(page, here, there)
            if taken:
                yield taken
            if len(page) < PAGE:
                return
            after = page[-1].file.id

    async def _check_page(self, page: list[Candidate], here: Listing, there: Listing) -> list[tuple[File, Key]]:
        todo = [candidate.file for candidate in page if candidate.state not in _MOVED]
        self.copied += len(page) - len(todo)
        named = [(file, key) for file in todo if (key := self._named(file)) is not None]
        names = [key.value for _, key in named]
        at_source, at_target = await here.sizes(names), await there.sizes(names)
        forbidden = await asyncio.to_thread(unreadable, self._work.route.source, [key for _, key in named])
        taken: list[tuple[File, Key]] = []
        for file, key in named:
            problem = await self._fault(file, key, at_source.get(key.value), key in forbidden)
            occupied = at_target.get(key.value)
            if (
                occupied is not None
                and occupied == file.size
                and (problem is None or problem.kind is ProblemKind.MISSING)
            ):
                taken.append((file, key))  # perhaps the copy of a move that a restored catalogue does not know
                continue
            if problem is None and occupied is not None:
                problem = OCCUPIED
            if problem is not None:
                self.problems.add(file.path, str(problem))
        return taken

    def _named(self, file: File) -> Key | None:
        """Counts the file. None where its path can be no key at the source or at the target, which is a problem."""
        size = file.size or 0
        self.files += 1
        self.bytes += size
        files, total = self.by_kind.get(file.kind, (0, 0))
        self.by_kind[file.kind] = files + 1, total + size
        try:
            self._work.route.target_path(file.path)
            return self._work.route.source.area.key(file.path)
        except StorageError as error:
            self.problems.add(file.path, str(target_problem(error)))
            return None

    async def _fault(self, file: File, key: Key, stored: int | None, unreadable: bool) -> Problem | None:
        if record_of(file) is None:
            return UNRECORDED
        if stored is None and self.problems.count < MOST_NAMED:
            # The listing may be older than the file.
            try:
                stored = (await self._work.route.source.backend.head(key)).size
            except StorageError as error:
                return source_problem(error)
        if stored is None:
            return source_problem(ObjectNotFound(key.value, self._work.route.source.backend.name))
        if stored != file.size:
            return wrong_size(stored, file.size or 0)
        return Problem(ProblemKind.FORBIDDEN, "no permission to read it") if unreadable else None

    async def _look_at_target(self, taken: tuple[File, Key]) -> None:
        """A copy of an earlier run, or somebody else's file?"""
        file, key = taken
        record = record_of(file)
        if record is None:
            return
        fault = await find_fault(self._work.route.target, key, record, self._work.method)
        if fault is not None:
            self.problems.add(file.path, str(OCCUPIED if fault.kind is ProblemKind.COPY_DAMAGED else fault))


def unreadable(source: Home, keys: list[Key]) -> set[Key]:
    """Those that may not be opened here; a store in the network answers that only when it is read."""
    files = ((key, source.backend.local_path(key)) for key in keys)
    return {key for key, file in files if file is not None and file.exists() and not os.access(file, os.R_OK)}
