"""Copies the objects without a row that a move takes along: the markers of the mount check, and `backups/`.

Their sources are kept: a second copy of a backup does no harm, and a marker identifies its disk. Objects in `quarantine/` are not copied:
an operator has to decide about them first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.health.markers import MARKER_NAME, MEDIA_FOLDERS
from app.migration.backups.backup_store import BACKUP_FOLDER as BACKUPS
from app.migration.backups.backup_store import UNVERIFIED_SUFFIX
from app.migration.copy_check import ContentHasher, read_back
from app.migration.migration_context import MigrationContext
from app.migration.problems import (
    COPY_DAMAGED,
    TARGET_OCCUPIED,
    MoveProblem,
    describe_source_error,
    describe_target_error,
)
from app.migration.reports import ProblemList
from app.storage.errors import InvalidKey, ObjectExists, ObjectNotFound, StorageError
from app.storage.key import Key


async def copy_untracked_objects(context: MigrationContext) -> ProblemList:
    """Copy those that are not at the target yet, and read each back. Returns the problems."""
    problems = ProblemList()
    try:
        async for name in _list_untracked(context):
            try:
                problem = await _copy_object(context, Key(name))
            except InvalidKey as error:
                problem = describe_target_error(error)
            if problem is not None:
                problems.add(context.route.source.paths.to_listed_path(name), str(problem))
    except StorageError as error:
        problems.add(context.route.source.paths.path_prefix + BACKUPS, str(describe_source_error(error)))
    return problems


async def _list_untracked(context: MigrationContext) -> AsyncIterator[str]:
    """Names as listed: foreign objects may have names that are no valid keys."""
    source = context.route.source.backend
    for name in (MARKER_NAME, *(f"{folder}/{MARKER_NAME}" for folder in MEDIA_FOLDERS)):
        if await source.exists(Key(name)):
            yield name
    async for info in source.list_objects(BACKUPS):
        if info.key != f"{BACKUPS}/{MARKER_NAME}" and not info.key.endswith(UNVERIFIED_SUFFIX):
            yield info.key


async def _copy_object(context: MigrationContext, key: Key) -> MoveProblem | None:
    source, target = context.route.source, context.route.target
    digest = ContentHasher()
    try:
        async with (
            source.backend.read_stream(key) as stream,
            target.backend.write_stream(key, size=stream.info.size) as writer,
        ):
            async for chunk in stream.chunks:
                digest.update(chunk)
                await writer.write(chunk)
        return None if (await read_back(target, key)).matches(digest.to_checksums()) else COPY_DAMAGED
    except ObjectExists:
        pass
    except ObjectNotFound:
        return None  # an old backup that was removed meanwhile
    except StorageError as error:
        return describe_source_error(error)
    if key.segments[-1] == MARKER_NAME:
        return None  # each location has its own marker
    try:
        target_checksums = (await read_back(target, key)).to_checksums()
        return None if (await read_back(source, key)).matches(target_checksums) else TARGET_OCCUPIED
    except StorageError as error:
        return describe_source_error(error)
