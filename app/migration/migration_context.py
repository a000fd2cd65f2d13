"""`MigrationContext`: the arguments that all commands of a move share; and shared steps: lock, current migration, ledger pages, report."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.catalog.catalog import Catalog
from app.catalog.database.process_locks import LockCheck
from app.catalog.schema.move_records import MoveFilters, MoveItemWithFile, MoveState, StorageMigration
from app.config import StorageEngine
from app.migration.copy_check import VerifyMethod
from app.migration.reports import MoveReport, ProblemList, load_ledger_problems
from app.migration.source_and_target import MoveRefused, MoveRoute
from app.migration.step_progress import MoveProgress, SilentProgress
from app.storage.service import StorageService

PAGE_FILES = 500
DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class MigrationContext:
    """`concurrency`: number of files at a time. `bandwidth`: bytes per second of all copies together, not counting reads for verification;
    None for no limit."""

    catalog: Catalog
    storage: StorageService
    route: MoveRoute
    filters: MoveFilters = field(default_factory=MoveFilters)
    method: VerifyMethod = VerifyMethod.AUTO
    concurrency: int = DEFAULT_CONCURRENCY
    bandwidth: int | None = None
    progress: MoveProgress = field(default_factory=SilentProgress)

    @property
    def target_engine(self) -> StorageEngine:
        return self.route.target.engine


async def find_current_migration(context: MigrationContext) -> StorageMigration | None:
    """The unfinished migration; None where there is none. Raises `MoveRefused` where it goes in the other direction."""
    under_way = await context.catalog.moves.get_unfinished()
    if under_way is not None and under_way.target is not context.target_engine:
        began = f"{under_way.created_at:%Y-%m-%d %H:%M} UTC"
        raise MoveRefused(
            f"a move to {under_way.target}, begun {began}, is not finished: `mediavault migrate cleanup --to {under_way.target}`"
            f" or `mediavault migrate rollback --to {under_way.target}` ends it"
        )
    return under_way


async def require_current_migration(context: MigrationContext) -> StorageMigration:
    migration = await find_current_migration(context)
    if migration is None:
        raise MoveRefused(
            f"no move to {context.target_engine} is under way: `mediavault migrate run --to {context.target_engine}` begins one"
        )
    return migration


@asynccontextmanager
async def hold_migration_lock(context: MigrationContext) -> AsyncIterator[LockCheck]:
    """Holds the lock of the ledger, and yields a check that it is still held. Raises `MigrationBusy` where another process holds it."""
    async with context.catalog.moves.lock_ledger() as check_lock:
        yield check_lock


async def iterate_moves(
    context: MigrationContext, migration: StorageMigration, states: Collection[MoveState]
) -> AsyncIterator[list[MoveItemWithFile]]:
    """Pages of all items in these states; each item at most once, also when its state changes meanwhile."""
    after = None
    while True:
        page = await context.catalog.moves.get_moves(
            migration.id, states, after=after, limit=PAGE_FILES, filters=context.filters
        )
        if page:
            yield page
        if len(page) < PAGE_FILES:
            return
        after = page[-1].item.file_id


async def has_unplanned_files(context: MigrationContext, migration: StorageMigration, filters: MoveFilters) -> bool:
    """Whether files lie at the source that have no open item in the ledger."""
    base = context.route.source.paths.path_prefix
    return bool(
        await context.catalog.moves.get_candidates(
            base, migration.id, after=None, limit=1, filters=filters, only_unplanned=True
        )
    )


class CommandTally:
    """Counts files and bytes that one command has processed, and its seconds."""

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


async def make_report(
    command: str,
    context: MigrationContext,
    migration: StorageMigration,
    tally: CommandTally,
    notes: Sequence[str] = (),
    other_problems: ProblemList | None = None,
) -> MoveReport:
    """The state of the migration after this command. `other_problems`: problems that are not in the ledger."""
    problems = await load_ledger_problems(context.catalog, migration, context.filters)
    for file_problem in other_problems.listed if other_problems else ():
        problems.add(file_problem.path, file_problem.problem)
    if other_problems:
        problems.count += other_problems.count - len(other_problems.listed)
    tallies = await context.catalog.moves.count_by_state(migration.id, context.filters)
    current = await context.catalog.moves.get(migration.id)
    return MoveReport(command, current, tally.files, tally.bytes, tally.seconds, tallies, problems, notes)
