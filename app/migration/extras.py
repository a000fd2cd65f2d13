"""What no row accounts for and goes along: the markers of the mount check, and `backups/`. They are copied and never removed:
a second copy of a backup harms nobody, and a marker keeps its disk known. What lies in `quarantine/` stays where it is: it is nobody's
until somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.health.markers import FOLDERS, MARKER
from app.migration.backup import FOLDER as BACKUPS
from app.migration.backup import UNVERIFIED
from app.migration.problems import COPY_DAMAGED, OCCUPIED, Problem, source_problem, target_problem
from app.migration.reports import Problems
from app.migration.verification import Digest, read_back
from app.migration.work import Work
from app.storage.errors import InvalidKey, ObjectExists, ObjectNotFound, StorageError
from app.storage.key import Key


async def carry_extras(work: Work) -> Problems:
    """Copy those that are not at the target yet, each read back. Returns what could not be copied."""
    problems = Problems()
    try:
        async for name in _extras(work):
            try:
                problem = await _carry(work, Key(name))
            except InvalidKey as error:
                problem = target_problem(error)
            if problem is not None:
                problems.add(work.route.source.area.listed(name), str(problem))
    except StorageError as error:
        problems.add(work.route.source.area.base + BACKUPS, str(source_problem(error)))
    return problems


async def _extras(work: Work) -> AsyncIterator[str]:
    """Names as they are listed: what others have put there need not be a key."""
    source = work.route.source.backend
    for name in (MARKER, *(f"{folder}/{MARKER}" for folder in FOLDERS)):
        if await source.exists(Key(name)):
            yield name
    async for info in source.list_objects(BACKUPS):
        if info.key != f"{BACKUPS}/{MARKER}" and not info.key.endswith(UNVERIFIED):
            yield info.key


async def _carry(work: Work, key: Key) -> Problem | None:
    source, target = work.route.source, work.route.target
    digest = Digest()
    try:
        async with (
            source.backend.read_stream(key) as stream,
            target.backend.write_stream(key, size=stream.info.size) as writer,
        ):
            async for chunk in stream.chunks:
                digest.update(chunk)
                await writer.write(chunk)
        return None if (await read_back(target, key)).fits(digest.record()) else COPY_DAMAGED
    except ObjectExists:
        pass
    except ObjectNotFound:
        return None  # rotated away meanwhile
    except StorageError as error:
        return source_problem(error)
    if key.segments[-1] == MARKER:
        return None  # each place has its own
    try:
        there = (await read_back(target, key)).record()
        return None if (await read_back(source, key)).fits(there) else OCCUPIED
    except StorageError as error:
        return source_problem(error)
