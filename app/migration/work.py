"""What all commands of the move are given, and what they share: whose turn it is, and the one migration that is under way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.catalog.catalog import Catalog
from app.catalog.locks import StillHeld
from app.catalog.move_records import Migration, Move, MoveFilters, MoveState
from app.config import StorageEngine
from app.migration.progress import Progress, Silent
from app.migration.reports import Problems, Report, ledger_problems
from app.migration.route import MoveRefused, Route
from app.migration.verification import Method
from app.storage.service import StorageService

PAGE = 500
DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Work:
    """`concurrency`: files at a time. `bandwidth`: bytes per second of all copies, without what is read back
    of them; None for no limit."""

    catalog: Catalog
    storage: StorageService
    route: Route
    filters: MoveFilters = field(default_factory=MoveFilters)
    method: Method = Method.AUTO
    concurrency: int = DEFAULT_CONCURRENCY
    bandwidth: int | None = None
    progress: Progress = field(default_factory=Silent)

    @property
    def to(self) -> StorageEngine:
        return self.route.target.engine


async def current(work: Work) -> Migration | None:
    """The migration that is under way. Raises `MoveRefused` where it goes the other way."""
    under_way = await work.catalog.moves.unfinished()
    if under_way is not None and under_way.target is not work.to:
        began = f"{under_way.created_at:%Y-%m-%d %H:%M} UTC"
        raise MoveRefused(
            f"a move to {under_way.target}, begun {began}, is not finished: `mediavault migrate cleanup --to {under_way.target}`"
            f" or `mediavault migrate rollback --to {under_way.target}` ends it"
        )
    return under_way


async def require_current(work: Work) -> Migration:
    found = await current(work)
    if found is None:
        raise MoveRefused(f"no move to {work.to} is under way: `mediavault migrate run --to {work.to}` begins one")
    return found


@asynccontextmanager
async def alone(work: Work) -> AsyncIterator[StillHeld]:
    """Raises `MigrationBusy` where another process works on a migration of this catalogue."""
    async with work.catalog.moves.alone() as still_held:
        yield still_held


async def pages(work: Work, migration: Migration, states: Collection[MoveState]) -> AsyncIterator[list[Move]]:
    """Every item in these states, a page at a time; each at most once, whatever becomes of it meanwhile."""
    after = None
    while True:
        page = await work.catalog.moves.moves(migration.id, states, after=after, limit=PAGE, filters=work.filters)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1].item.file_id


async def any_unplanned(work: Work, migration: Migration, filters: MoveFilters) -> bool:
    """Whether files are at the source that no open item is about."""
    base = work.route.source.area.base
    return bool(
        await work.catalog.moves.candidates(base, migration.id, after=None, limit=1, filters=filters, unplanned=True)
    )


class Tally:
    """Files and bytes that one command brought further, and since when."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._began = time.monotonic()

    def add(self, sizes: Sequence[int]) -> None:
        self.files += len(sizes)
        self.bytes += sum(sizes)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


async def report(
    command: str,
    work: Work,
    migration: Migration,
    tally: Tally,
    notes: Sequence[str] = (),
    more: Problems | None = None,
) -> Report:
    """How the migration stands after this command. `more`: problems that the ledger does not keep."""
    problems = await ledger_problems(work.catalog, migration, work.filters)
    for named in more.named if more else ():
        problems.add(named.path, named.problem)
    if more:
        problems.count += more.count - len(more.named)
    tallies = await work.catalog.moves.tallies(migration.id, work.filters)
    now = await work.catalog.moves.get(migration.id)
    return Report(command, now, tally.files, tally.bytes, tally.seconds, tallies, problems, notes)
