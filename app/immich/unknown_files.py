"""Finds the files below a folder that no row names. Both are read in the order of their paths' bytes and compared as they come, so that
memory does not depend on their number.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice

from app.immich.media_roots import MediaRoot
from app.immich.source.reader import SourceReader

_BATCH = 2000
MARKER = b".immich"
_UNNAMED_FOLDERS = (b"backups",)
"""Folders of the media location whose files have no rows."""


async def compare_with_rows(
    reader: SourceReader, root: MediaRoot, on_unknown: Callable[[str], None], on_shared: Callable[[str, int], None]
) -> None:
    """Calls `on_unknown` with each file that no row names, and `on_shared` with each path that several rows name and their number. Paths
    are Immich's."""
    container = root.container.encode()
    rows = reader.stream_paths(f"{root.container}/")
    row = await anext(rows, None)
    async for name in _list_files(root.host):
        path = container + b"/" + name
        while row is not None and row[0].encode() < path:
            row = await _pass(rows, row, on_shared)
        if row is None or row[0].encode() != path:
            on_unknown(os.fsdecode(path))
    while row is not None:
        row = await _pass(rows, row, on_shared)


async def _pass(
    rows: AsyncIterator[tuple[str, int]], row: tuple[str, int], on_shared: Callable[[str, int], None]
) -> tuple[str, int] | None:
    if row[1] > 1:
        on_shared(*row)
    return await anext(rows, None)


async def _list_files(host: str) -> AsyncIterator[bytes]:
    """Names of the files below the folder, relative to it, in the order of their bytes."""
    names = walk_sorted(os.fsencode(host))
    while batch := await asyncio.to_thread(lambda: list(islice(names, _BATCH))):
        for name in batch:
            yield name


def walk_sorted(root: bytes) -> Iterator[bytes]:
    """As `_list_files`. Links are not followed; markers, backups and folders that cannot be read are left out."""
    pending = _list_folder(root, b"")
    while pending:
        name = pending.pop()
        if not name.endswith(b"/"):
            yield name
        elif name[:-1] not in _UNNAMED_FOLDERS:
            pending += _list_folder(root, name)


def _list_folder(root: bytes, below: bytes) -> list[bytes]:
    """The entries, the last first. Those that are folders end with a slash, after which they are sorted: as the paths of their files
    are."""
    try:
        with os.scandir(root + b"/" + below) as listed:
            entries = [
                below + entry.name + (b"/" if entry.is_dir(follow_symlinks=False) else b"")
                for entry in listed
                if entry.name != MARKER
            ]
    except OSError:
        return []
    return sorted(entries, reverse=True)
