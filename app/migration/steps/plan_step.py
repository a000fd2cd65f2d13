"""`migrate plan`: reports how much a move would copy, an estimate of its time, and all problems that can be found beforehand.

Changes nothing, apart from a small test object that shows whether the target can be written. Source and target are each listed once, in
constant memory, instead of one request per file.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.catalog.schema.move_records import MoveCandidate, MoveState
from app.catalog.schema.records import File, FileKind
from app.config import StorageEngine
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.copy_check import find_copy_problem, get_recorded_checksums
from app.migration.location_listing import LocationListing, open_listing
from app.migration.migration_context import PAGE_FILES, MigrationContext, find_current_migration
from app.migration.problems import (
    CHECKSUM_UNRECORDED,
    FOLDER_UNLISTABLE,
    TARGET_OCCUPIED,
    MoveProblem,
    ProblemKind,
    describe_source_error,
    describe_target_error,
    describe_wrong_size,
)
from app.migration.reports import MAX_LISTED_PROBLEMS, ProblemList
from app.migration.source_and_target import check_media_locations
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.key import Key
from app.storage.service import StorageLocation

DEFAULT_BYTES_PER_SECOND = 50 * 1024 * 1024
"""Bytes per second for the estimate where no limit is set: half of a fast home line, less than most disks."""
REQUESTS_PER_FILE = 3
PROBE_REQUESTS = 3

_COPIED_STATES = (MoveState.COPIED, MoveState.VERIFIED)


@dataclass(frozen=True, slots=True)
class MovePlan:
    """`files` and `bytes` are still to be copied, `copied_files` are copied but not switched yet. `seconds` is an
    estimate. `by_kind`: files and bytes to be copied, by kind."""

    files: int
    bytes: int
    copied_files: int
    by_kind: dict[FileKind, tuple[int, int]]
    seconds: float
    problems: ProblemList
    notes: Sequence[str]


async def plan_move(context: MigrationContext) -> MovePlan:
    """Raises `MoveRefused`, `CatalogError`."""
    migration = await find_current_migration(context)
    await check_media_locations(context.catalog, context.storage, context.route.source)
    planner = _MovePlanner(context, None if migration is None else migration.id)
    latency = await planner.probe_target()
    if latency is not None:
        await planner.check_all()
    foreign = await planner.count_foreign_files()
    seconds = estimate_seconds(planner.files, planner.bytes, latency or 0.0, context.concurrency, context.bandwidth)
    notes = [] if context.storage.engine is context.target_engine else [_engine_note(context)]
    if foreign:
        notes.append(f"{foreign} of these files belong to another program: they are copied, and stay where they are")
    return MovePlan(planner.files, planner.bytes, planner.copied, planner.by_kind, seconds, planner.problems, notes)


def estimate_seconds(files: int, size: int, latency: float, concurrency: int, bandwidth: int | None) -> float:
    """Seconds for `size` bytes at `bandwidth` or the default rate, plus the latency of `REQUESTS_PER_FILE` requests per file, `concurrency`
    files at a time."""
    return size / (bandwidth or DEFAULT_BYTES_PER_SECOND) + files * REQUESTS_PER_FILE * latency / concurrency


def _engine_note(context: MigrationContext) -> str:
    return (
        f"IMMICH_STORAGE_ENGINE is still {context.storage.engine}: set it to {context.target_engine} and restart the service before"
        f" `mediavault migrate run --to {context.target_engine}`"
    )


class _MovePlanner:
    def __init__(self, context: MigrationContext, migration_id: UUID | None) -> None:
        self._context = context
        self._migration_id = migration_id
        self.files = 0
        self.bytes = 0
        self.copied = 0
        self.by_kind: dict[FileKind, tuple[int, int]] = {}
        self.problems = ProblemList()

    async def count_foreign_files(self) -> int:
        """Adds the foreign files that have no copy in S3, without a look at their bytes. Returns how many."""
        if self._context.target_engine is not StorageEngine.S3:
            return 0
        uncopied = await self._context.catalog.moves.measure_uncopied(self._context.filters)
        for kind, (files, size) in uncopied.items():
            known_files, known_size = self.by_kind.get(kind, (0, 0))
            self.by_kind[kind] = known_files + files, known_size + size
        count, size = (sum(column) for column in zip(*uncopied.values(), strict=True)) if uncopied else (0, 0)
        self.files += count
        self.bytes += size
        return count

    async def probe_target(self) -> float | None:
        """Seconds for one request to the target; None where it cannot be written, which adds a problem."""
        target = self._context.route.target
        began = time.monotonic()
        try:
            await target.backend.probe()
        except StorageError as error:
            self.problems.add(target.paths.path_prefix, str(describe_target_error(error)))
            return None
        return (time.monotonic() - began) / PROBE_REQUESTS

    async def check_all(self) -> None:
        source, target = self._context.route.source, self._context.route.target
        location = source
        try:
            async with open_listing(source, self._context.storage.staging) as source_listing:
                location = target
                async with open_listing(target, self._context.storage.staging) as target_listing:
                    for paths, listing in ((source.paths, source_listing), (target.paths, target_listing)):
                        for folder in listing.unlisted_folders:
                            self.problems.add(paths.to_listed_path(folder), str(FOLDER_UNLISTABLE))
                    await run_in_parallel(
                        self._check_candidates(source_listing, target_listing),
                        self._context.concurrency,
                        self._check_occupied_target,
                    )
        except StorageError as error:
            self.problems.add(
                location.paths.path_prefix,
                str(describe_source_error(error) if location is source else describe_target_error(error)),
            )

    async def _check_candidates(
        self, source_listing: LocationListing, target_listing: LocationListing
    ) -> AsyncIterator[list[tuple[File, Key]]]:
        """Checks all candidates against both listings. Yields those whose target holds an object of the same size: its bytes have to be
        compared."""
        after: UUID | None = None
        base = self._context.route.source.paths.path_prefix
        while True:
            page = await self._context.catalog.moves.get_candidates(
                base, self._migration_id, after=after, limit=PAGE_FILES, filters=self._context.filters
            )
            taken = await self._check_page(page, source_listing, target_listing)
            if taken:
                yield taken
            if len(page) < PAGE_FILES:
                return
            after = page[-1].file.id

    async def _check_page(
        self, page: list[MoveCandidate], source_listing: LocationListing, target_listing: LocationListing
    ) -> list[tuple[File, Key]]:
        uncopied = [candidate.file for candidate in page if candidate.state not in _COPIED_STATES]
        self.copied += len(page) - len(uncopied)
        files_with_keys = [(file, key) for file in uncopied if (key := self._count_and_find_key(file)) is not None]
        names = [key.value for _, key in files_with_keys]
        at_source, at_target = await source_listing.sizes(names), await target_listing.sizes(names)
        forbidden = await asyncio.to_thread(
            find_unreadable, self._context.route.source, [key for _, key in files_with_keys]
        )
        taken: list[tuple[File, Key]] = []
        for file, key in files_with_keys:
            problem = await self._find_source_problem(file, key, at_source.get(key.value), key in forbidden)
            occupied = at_target.get(key.value)
            if (
                occupied is not None
                and occupied == file.size
                and (problem is None or problem.kind is ProblemKind.MISSING)
            ):
                taken.append((file, key))  # perhaps a copy from a move that a restored catalogue does not know
                continue
            if problem is None and occupied is not None:
                problem = TARGET_OCCUPIED
            if problem is not None:
                self.problems.add(file.path, str(problem))
        return taken

    def _count_and_find_key(self, file: File) -> Key | None:
        """Counts the file and returns its key; None where its path is no valid key at the source or at the target, which adds a
        problem."""
        size = file.size or 0
        self.files += 1
        self.bytes += size
        files, total = self.by_kind.get(file.kind, (0, 0))
        self.by_kind[file.kind] = files + 1, total + size
        try:
            self._context.route.target_path(file.path)
            return self._context.route.source.paths.to_key(file.path)
        except StorageError as error:
            self.problems.add(file.path, str(describe_target_error(error)))
            return None

    async def _find_source_problem(
        self, file: File, key: Key, stored: int | None, is_unreadable: bool
    ) -> MoveProblem | None:
        if get_recorded_checksums(file) is None:
            return CHECKSUM_UNRECORDED
        if stored is None and self.problems.count < MAX_LISTED_PROBLEMS:
            # The listing may be older than the file.
            try:
                stored = (await self._context.route.source.backend.head(key)).size
            except StorageError as error:
                return describe_source_error(error)
        if stored is None:
            return describe_source_error(ObjectNotFound(key.value, self._context.route.source.backend.name))
        if stored != file.size:
            return describe_wrong_size(stored, file.size or 0)
        return MoveProblem(ProblemKind.FORBIDDEN, "no permission to read it") if is_unreadable else None

    async def _check_occupied_target(self, taken: tuple[File, Key]) -> None:
        """Decides whether an object at the target is a copy of an earlier run or a foreign object."""
        file, key = taken
        recorded = get_recorded_checksums(file)
        if recorded is None:
            return
        copy_problem = await find_copy_problem(self._context.route.target, key, recorded, self._context.method)
        if copy_problem is not None:
            self.problems.add(
                file.path, str(TARGET_OCCUPIED if copy_problem.kind is ProblemKind.COPY_DAMAGED else copy_problem)
            )


def find_unreadable(source: StorageLocation, keys: list[Key]) -> set[Key]:
    """The keys whose local files this process may not read; empty on S3, where only a read would tell."""
    files = ((key, source.backend.local_path(key)) for key in keys)
    return {key for key, file in files if file is not None and file.exists() and not os.access(file, os.R_OK)}
