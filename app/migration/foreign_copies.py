"""Copies of foreign files: which are made, where they lie, and when they are kept beside their sources.

A copy's name has the file's id and the beginning of its SHA-1: the same bytes have the same name after a catalogue was restored,
and other bytes of the same file another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import PurePosixPath
from uuid import UUID

from app.catalog.moves.move_ledger import UNSWITCHED_STATES
from app.catalog.schema.move_records import MoveItemWithFile, MoveState, StorageMigration
from app.catalog.schema.records import File, FileKind
from app.migration.bounded_concurrency import run_in_parallel
from app.migration.copy_check import ContentHasher, RecordedChecksums, find_copy_problem, get_recorded_checksums
from app.migration.migration_context import PAGE_FILES, MigrationContext, iterate_moves
from app.migration.problems import (
    COPY_DAMAGED,
    COPY_MISSING,
    TARGET_BUSY,
    MoveProblem,
    describe_source_error,
    describe_target_error,
    describe_wrong_size,
)
from app.migration.reports import ProblemList
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.key import Key
from app.storage.service import StorageService

_FOLDERS = {
    FileKind.ENCODED_VIDEO: "encoded-video",
    FileKind.MOTION: "encoded-video",
    FileKind.FULLSIZE: "thumbs",
    FileKind.PERSON: "thumbs",
    FileKind.PREVIEW: "thumbs",
    FileKind.PROFILE: "profile",
    FileKind.THUMBNAIL: "thumbs",
}
_MAX_EXTENSION = 10


def make_copy_key(file: File) -> Key:
    """`<folder>/<owner>/<aa>/<bb>/<file>-<8 hex of the SHA-1><extension>`."""
    if file.sha1 is None:
        raise ValueError("the SHA-1 is not known")
    name, suffix = _make_stem(file.id, file.sha1), PurePosixPath(file.path).suffix
    extension = suffix.lower() if suffix.isascii() and len(suffix) <= _MAX_EXTENSION else ""
    folder = _FOLDERS.get(file.kind, "upload")
    return Key(f"{folder}/{file.owner_id}/{name[:2]}/{name[2:4]}/{name}{extension}")


def _make_stem(file_id: UUID, sha1: bytes) -> str:
    return f"{file_id}-{sha1[:4].hex()}"


async def hash_foreign_files(context: MigrationContext, problems: ProblemList) -> None:
    """Read the foreign files without a SHA-1 (derivatives and sidecars of another program) and store their checksums."""

    async def iterate_pages() -> AsyncIterator[list[File]]:
        after: UUID | None = None
        while True:
            page = await context.catalog.moves.get_unhashed_foreign_files(
                after=after, limit=PAGE_FILES, filters=context.filters
            )
            if page:
                yield page
            if len(page) < PAGE_FILES:
                return
            after = page[-1].id

    async def hash_file(file: File) -> None:
        digest = ContentHasher()
        try:
            async with context.storage.read_foreign_source(file.path) as stream:
                async for chunk in stream.chunks:
                    digest.update(chunk)
        except StorageError as error:
            problems.add(file.path, str(describe_source_error(error)))
            return
        found = digest.to_checksums()
        if found.size != file.size or found.sha1 is None or found.crc32 is None:
            problems.add(file.path, str(describe_wrong_size(found.size, file.size or 0)))
            return
        await context.catalog.foreign_files.store_checksums(file.id, file.path, found.size, found.sha1, found.crc32)

    await run_in_parallel(iterate_pages(), context.concurrency, hash_file)


async def find_foreign_problem(storage: StorageService, path: str, recorded: RecordedChecksums) -> MoveProblem | None:
    """As `find_copy_problem`, for a foreign file where it lies."""
    digest = ContentHasher()
    try:
        async with storage.read_foreign_source(path) as stream:
            async for chunk in stream.chunks:
                digest.update(chunk)
    except ObjectNotFound:
        return COPY_MISSING
    except StorageError as error:
        return describe_source_error(error)
    return None if digest.matches(recorded) else COPY_DAMAGED


async def plan_foreign_copies(context: MigrationContext, migration: StorageMigration, problems: ProblemList) -> int:
    """Insert ledger items and twins for all foreign files that have no copy. Returns how many."""
    added = 0
    after: UUID | None = None
    while True:
        page = await context.catalog.moves.get_copy_candidates(
            migration.id, after=after, limit=PAGE_FILES, filters=context.filters
        )
        targets: list[tuple[File, str]] = []
        for file in page:
            try:
                targets.append((file, context.route.target.paths.to_path(make_copy_key(file))))
            except StorageError as error:
                problems.add(file.path, str(describe_target_error(error)))
        taken = await context.catalog.moves.plan_moves(migration.id, targets) if targets else set()
        await _keep_former_copies(context, [(file, path) for file, path in targets if path in taken], problems)
        added += len(targets) - len(taken)
        if len(page) < PAGE_FILES:
            return added
        after = page[-1].id


async def _keep_former_copies(
    context: MigrationContext, occupied: list[tuple[File, str]], problems: ProblemList
) -> None:
    """Files whose targets have rows already: whose content is one that they have had before, and whose former copies hold it."""

    async def iterate_pages() -> AsyncIterator[list[tuple[File, str]]]:
        yield occupied

    async def keep_former_copy(target: tuple[File, str]) -> None:
        problem = await _keep_former_copy(context, *target)
        if problem is not None:
            problems.add(target[0].path, str(problem))

    if occupied:
        await run_in_parallel(iterate_pages(), context.concurrency, keep_former_copy)


async def _keep_former_copy(context: MigrationContext, file: File, path: str) -> MoveProblem | None:
    """A lost or damaged former copy is marked for deletion once the source, which holds the same bytes, was read and is whole: a later
    run copies it."""
    copies, target = context.catalog.kept_copies, context.route.target
    recorded, key = get_recorded_checksums(file), target.paths.to_key(path)
    former = await copies.find_former_at(file.id, path)
    if former is None or recorded is None or key is None or file.sha1 is None:
        return TARGET_BUSY
    problem = await find_copy_problem(target, key, recorded, context.method)
    if problem is None:
        return None if await copies.keep_former(file.id, path, file.sha1) else TARGET_BUSY
    if problem not in (COPY_MISSING, COPY_DAMAGED):
        return problem
    if await find_foreign_problem(context.storage, file.path, recorded) is not None:
        return problem
    await copies.forget_former(former, file.sha1)
    return TARGET_BUSY


async def give_up_outdated_copies(context: MigrationContext, migration: StorageMigration) -> None:
    """Give up what an earlier run has begun for a content that its files do not have any more: they are planned anew, at names of
    today's."""
    async for page in iterate_moves(context, migration, UNSWITCHED_STATES):
        await _give_up_outdated(context, migration, page)


async def keep_verified_copies(context: MigrationContext, migration: StorageMigration) -> None:
    """Keep the copies that an earlier run has verified, and was killed before it recorded them."""
    async for page in iterate_moves(context, migration, {MoveState.VERIFIED}):
        await keep_copies(context, migration, [move for move in page if move.is_foreign])


async def keep_copies(
    context: MigrationContext, migration: StorageMigration, moves: Collection[MoveItemWithFile]
) -> frozenset[UUID]:
    """Record verified copies as those of their foreign files, but for outdated ones. Returns the files whose copies are kept."""
    await _give_up_outdated(context, migration, moves)
    current = [move.file for move in moves if move.file is not None and not _is_outdated(move)]
    sha1s = {file.id: file.sha1 for file in current if file.sha1 is not None}
    return await context.catalog.kept_copies.keep(migration.id, sha1s) if sha1s else frozenset()


async def _give_up_outdated(
    context: MigrationContext, migration: StorageMigration, moves: Collection[MoveItemWithFile]
) -> None:
    outdated = [move.item.file_id for move in moves if _is_outdated(move)]
    if outdated:
        await context.catalog.kept_copies.give_up(migration.id, outdated)


def _is_outdated(move: MoveItemWithFile) -> bool:
    """Whether the target's name is that of another content than the foreign file has now. The source may have another name than at
    planning: the other program moves its files."""
    if move.file is None or not move.is_foreign:
        return False
    sha1 = move.file.sha1
    return sha1 is None or PurePosixPath(move.item.target_path).stem != _make_stem(move.file.id, sha1)
