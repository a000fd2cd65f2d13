"""`migrate run`: plans what lies at the source, copies and verifies it, and plans again until nothing is left.

Every row that a copy needs is committed before its first byte. What is killed goes on where the ledger says: a copy that is whole
is taken over by its bytes, one that is not was never seen by anybody.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from uuid import UUID

from app.catalog.errors import CatalogError
from app.catalog.locks import StillHeld
from app.catalog.move_records import Migration, Move, MoveOutcome, MoveState
from app.catalog.records import File
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.batches import Batches
from app.migration.copying import Copier
from app.migration.extras import carry_extras
from app.migration.listing import Listing, listed
from app.migration.parallel import in_parallel
from app.migration.problems import BUSY, ProblemKind, target_problem
from app.migration.reports import Problems, Report
from app.migration.route import require_engine, require_intact
from app.migration.throttle import Throttle
from app.migration.verification import record_of
from app.migration.work import PAGE, Tally, Work, alone, any_unplanned, current, pages, report
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.service import Home

GIVE_UP_AFTER = 24
"""So many files in a row that the store was away for, and the run ends: it says so, and the next one goes on."""

_UNDONE = (MoveState.PLANNED, MoveState.COPYING, MoveState.COPIED)


class _Target(Enum):
    """What is known of an item's target before its copy is begun."""

    FREE = auto()
    TAKEN = auto()
    UNKNOWN = auto()


async def run(work: Work) -> Report:
    """Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    require_engine(work.storage, work.to)
    async with alone(work) as still_held:
        migration = await current(work) or await work.catalog.moves.begin(work.to)
        await require_intact(work.catalog, work.storage, work.route.source, work.route.target)
        # What was rolled back may still stand in the way.
        await sweep(work.catalog, work.storage, now=datetime.now(UTC))
        copying = _Copying(work, migration, still_held)
        problems = await carry_extras(work)
        async with _free_keys(work) as taken:
            while True:
                added, in_the_way = await _plan(work, migration)
                await copying.all(taken)
                if not added or copying.stopped:
                    break
        for named in in_the_way.named:
            problems.add(named.path, named.problem)
        notes = list(copying.notes)
        finished = await work.catalog.moves.finish(migration.id)
        if finished and not await any_unplanned(work, migration, work.filters):
            notes.append("nothing is left to move")
        return await report("run", work, migration, copying.tally, notes, problems)


async def _plan(work: Work, migration: Migration) -> tuple[int, Problems]:
    """Ledger rows and twins for all that lies at the source and has none yet. Returns how many, and what could not be planned."""
    added = 0
    problems = Problems()
    after: UUID | None = None
    base = work.route.source.area.base
    while True:
        page = await work.catalog.moves.candidates(
            base, migration.id, after=after, limit=PAGE, filters=work.filters, unplanned=True
        )
        wanted: list[tuple[File, str]] = []
        for candidate in page:
            try:
                wanted.append((candidate.file, work.route.target_path(candidate.file.path)))
            except StorageError as error:
                problems.add(candidate.file.path, str(target_problem(error)))
        taken = await work.catalog.moves.add(migration.id, wanted) if wanted else set()
        for file, path in wanted:
            if path in taken:
                problems.add(file.path, str(BUSY))
        added += len(wanted) - len(taken)
        if len(page) < PAGE:
            return added, problems
        after = page[-1].file.id


@asynccontextmanager
async def _free_keys(work: Work) -> AsyncIterator[Listing | None]:
    """What the target holds, so that a store in the network need not be asked about each key. None where asking costs nothing, or
    where it may not be listed."""
    async with AsyncExitStack() as stack:
        listing: Listing | None = None
        if work.to is StorageEngine.S3:
            with suppress(StorageError):
                listing = await stack.enter_async_context(listed(work.route.target, work.storage.staging))
        yield listing


class _Copying:
    """Copies what the ledger has, several files at a time, and keeps the ledger up to date."""

    def __init__(self, work: Work, migration: Migration, still_held: StillHeld) -> None:
        self._work = work
        self._migration = migration
        self._still_held = still_held
        self._copier = Copier(work.route, work.method, Throttle(work.bandwidth), work.progress)
        self._results = Batches(self._record)
        self._sizes: dict[UUID, int] = {}
        self._away = 0
        self.tally = Tally()
        self.notes: list[str] = []
        self.stopped = False

    async def all(self, listing: Listing | None) -> None:
        """Every item that is planned or copied, once. `listing`: what the target held before the first of them was copied."""
        tallies = await self._work.catalog.moves.tallies(self._migration.id, self._work.filters)
        todo = [tally for tally in tallies if tally.state in _UNDONE]
        if not todo:
            return
        self._work.progress.begin("copying", sum(each.files for each in todo), sum(each.bytes for each in todo))
        try:
            await in_parallel(self._targets(listing), self._work.concurrency, self._one)
        except BaseException:
            with suppress(CatalogError):
                await self._results.flush()
            raise
        await self._results.flush()

    async def _targets(self, listing: Listing | None) -> AsyncIterator[list[tuple[Move, _Target]]]:
        """Page by page, each item with what is known of its target. Those that may be copied are begun in the ledger: one write for all."""
        async for page in pages(self._work, self._migration, _UNDONE):
            if self.stopped:
                return
            known = await self._look(page, listing)
            await self._still_held()
            await self._work.catalog.moves.begin_copying(
                self._migration.id,
                [
                    move.item.file_id
                    for move, target in known
                    if target is not _Target.TAKEN and move.wanted and move.file and record_of(move.file)
                ],
            )
            yield known

    async def _look(self, page: list[Move], listing: Listing | None) -> list[tuple[Move, _Target]]:
        target = self._work.route.target
        keys = [target.area.key(move.item.target_path) for move in page]
        asked = [key for key in keys if key is not None]
        if listing is not None:
            there = set(await listing.sizes(key.value for key in asked))
        elif target.engine is StorageEngine.LOCAL:
            there = await asyncio.to_thread(_present, target, asked)
        else:
            return [(move, _Target.UNKNOWN) for move in page]
        return [
            (move, _Target.TAKEN if key is not None and key.value in there else _Target.FREE)
            for move, key in zip(page, keys, strict=True)
        ]

    async def _one(self, item: tuple[Move, _Target]) -> None:
        move, target = item
        if self.stopped:
            outcome = MoveOutcome(move.item.file_id, move.item.state, move.item.problem)  # as before its page was begun
        elif move.file is None or not move.wanted:
            outcome = MoveOutcome(move.item.file_id, move.item.state, "deleted")
            self._work.progress.done(move.item.size)
        else:
            outcome = await self._carry(move, move.file, target)
        self._watch(outcome)
        self._sizes[move.item.file_id] = move.item.size
        await self._results.add(outcome)

    async def _carry(self, move: Move, file: File, target: _Target) -> MoveOutcome:
        if target is _Target.TAKEN and move.item.state is MoveState.PLANNED:
            # Perhaps somebody else's: it must not be taken for a copy of ours by whoever comes after this process.
            outcome = await self._copier.adopt(move, file)
            if outcome is not None:
                return outcome
            await self._work.catalog.moves.begin_copying(self._migration.id, [move.item.file_id])
        free = target is _Target.FREE and self._work.to is StorageEngine.S3
        return await self._copier.carry(move, file, free=free)

    def _watch(self, outcome: MoveOutcome) -> None:
        away = (outcome.problem or "").startswith((f"{ProblemKind.UNAVAILABLE}:", f"{ProblemKind.FULL}:"))
        self._away = self._away + 1 if away else 0
        if self._away >= GIVE_UP_AFTER and not self.stopped:
            self.stopped = True
            self.notes.append(f"stopped after {self._away} failures in a row ({outcome.problem}); run it again later")

    async def _record(self, outcomes: list[MoveOutcome]) -> None:
        await self._still_held()
        # First what was found: whose bytes lie at the target decides about what is dropped, too.
        await self._work.catalog.moves.record(self._migration.id, outcomes)
        failed = [outcome.file_id for outcome in outcomes if outcome.problem]
        dropped = await self._work.catalog.exchanges.drop_unwanted(self._migration.id, failed)
        kept = [outcome for outcome in outcomes if outcome.file_id not in dropped]
        sizes = {outcome.file_id: self._sizes.pop(outcome.file_id) for outcome in outcomes}
        self.tally.add([sizes[outcome.file_id] for outcome in kept if outcome.state is MoveState.VERIFIED])


def _present(home: Home, keys: list[Key]) -> set[str]:
    """Those at which there is a file here."""
    files = ((key.value, home.backend.local_path(key)) for key in keys)
    return {name for name, file in files if file is not None and os.path.lexists(file)}
