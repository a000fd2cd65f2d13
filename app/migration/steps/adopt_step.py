"""Adoption: makes foreign files ours, each at a verified copy below our media location. Their sources are left as they are.

A file without a copy is copied first, to where new files go. Each copy is compared once more right before its file's row takes its path. A
file whose copy is not whole stays foreign, and the originals of libraries stay where they lie. The adoption may be killed at any moment;
the next one goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.database.process_locks import LockCheck
from app.catalog.moves.move_ledger import OPEN_STATES
from app.catalog.schema.move_records import StorageMigration
from app.catalog.schema.records import File
from app.config import StorageEngine
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.commit_batches import BatchCommitter
from app.migration.copy_check import find_copy_problem, get_recorded_checksums
from app.migration.migration_context import (
    PAGE_FILES,
    MigrationContext,
    find_current_migration,
    hold_migration_lock,
    iterate_moves,
)
from app.migration.problems import CHECKSUM_UNRECORDED, PLANNED_ELSEWHERE, MoveProblem
from app.migration.reports import ProblemList, load_ledger_problems
from app.migration.source_and_target import MoveRefused, MoveRoute, check_media_locations
from app.migration.step_progress import MoveProgress
from app.migration.steps.run_step import copy_foreign_files
from app.storage.errors import StorageError
from app.storage.service import StorageLocation, StorageService


@dataclass(slots=True)
class AdoptionReport:
    """`files` and `bytes` were adopted now; `left` are still foreign. `roots`: folders that no file of ours needs any more;
    `kept_roots`: those that are still read, for files that are left and for those of libraries."""

    files: int = 0
    bytes: int = 0
    left: int = 0
    roots: list[str] = field(default_factory=list[str])
    kept_roots: list[str] = field(default_factory=list[str])
    problems: ProblemList = field(default_factory=ProblemList)
    notes: list[str] = field(default_factory=list[str])


def make_adoption_context(catalog: Catalog, storage: StorageService, progress: MoveProgress) -> MigrationContext:
    """For copies to where new files go. Raises `MoveRefused` where that is not there."""
    target = storage.find_location(storage.engine)
    if target is None:
        raise MoveRefused("the media location is not there")
    return MigrationContext(catalog, storage, MoveRoute(target, target), progress=progress)


async def adopt_foreign_files(context: MigrationContext) -> AdoptionReport:
    """`context`: see `make_adoption_context`. Raises `MoveRefused`, `MigrationBusy`, `CatalogError`."""
    catalog, storage = context.catalog, context.storage
    report = AdoptionReport()
    async with hold_migration_lock(context) as check_lock:
        await check_media_locations(catalog, storage, context.route.target)
        for root in await catalog.foreign_files.list_roots():
            try:
                await storage.check_foreign_root(root)
            except StorageError as error:
                raise MoveRefused(f"{root}: {error.detail}") from error
        migration = await find_current_migration(context)
        if migration is not None and await _has_open_moves(context, migration):
            raise MoveRefused(
                f"a move to {migration.target} is under way: `mediavault migrate cleanup --to {migration.target}` or"
                f" `mediavault migrate rollback --to {migration.target}` ends it"
            )
        migration = migration or await catalog.moves.begin_migration(context.target_engine)
        report.problems, report.notes = await copy_foreign_files(context, migration, check_lock)
        for problem in (await load_ledger_problems(catalog, migration)).listed:
            report.problems.add(problem.path, problem.problem)
        await catalog.moves.finish_migration(migration.id)
        await _Adoption(context, check_lock, report).run()
        report.left, _ = await catalog.foreign_files.count()
        report.roots = await catalog.foreign_files.remove_unused_roots()
        report.kept_roots = await catalog.foreign_files.list_roots()
    return report


async def _has_open_moves(context: MigrationContext, migration: StorageMigration) -> bool:
    """Whether files of ours are being moved: their copies are no business of an adoption."""
    async for page in iterate_moves(context, migration, OPEN_STATES):
        if any(move.is_file_live and not move.is_foreign for move in page):
            return True
    return False


class _Adoption:
    """Compares copies, several at a time, and adopts the files of good ones, in small batches right after."""

    def __init__(self, context: MigrationContext, check_lock: LockCheck, report: AdoptionReport) -> None:
        self._context = context
        self._check_lock = check_lock
        self._report = report
        self._checked = BatchCommitter(self._adopt)

    async def run(self) -> None:
        count, size = await self._context.catalog.foreign_files.count()
        self._context.progress.begin("adopting", count, size)
        await run_in_parallel(self._iterate_pages(), self._context.concurrency, self._check)
        await self._checked.flush()

    async def _iterate_pages(self) -> AsyncIterator[list[File]]:
        after: UUID | None = None
        while page := await self._context.catalog.foreign_files.list_copied(after=after, limit=PAGE_FILES):
            yield page
            after = page[-1].id

    async def _check(self, file: File) -> None:
        problem = await self._find_copy_problem(file, file.copy_path or "")
        self._context.progress.done(file.size or 0)
        if problem is None:
            await self._checked.add(file)
        else:
            self._report.problems.add(file.copy_path or file.path, str(problem))

    async def _find_copy_problem(self, file: File, path: str) -> MoveProblem | None:
        recorded, location = get_recorded_checksums(file), self._find_location(path)
        key = location.paths.to_key(path) if location is not None else None
        if recorded is None:
            return CHECKSUM_UNRECORDED
        if location is None or key is None:
            return PLANNED_ELSEWHERE
        return await find_copy_problem(location, key, recorded, self._context.method)

    def _find_location(self, path: str) -> StorageLocation | None:
        locations = (self._context.storage.find_location(engine) for engine in StorageEngine)
        return next((each for each in locations if each is not None and each.paths.contains(path)), None)

    async def _adopt(self, files: list[File]) -> None:
        await self._check_lock()
        copies = {file.id: file.copy_path for file in files if file.copy_path is not None}
        adopted = await self._context.catalog.kept_copies.adopt(copies)
        self._report.files += len(adopted)
        self._report.bytes += sum(file.size or 0 for file in files if file.id in adopted)
