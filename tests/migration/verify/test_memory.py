"""The memory use of the consistency check does not depend on the size of the library."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import insert

from app.catalog.schema import tables
from app.catalog.schema.records import FileKind, FileState
from app.storage.backend import ObjectInfo
from app.storage.key import Key
from tests.migration.verify.damaged_library import DamagedLibrary
from tests.real.notes import Note

FEW, MANY = 500, 4_000
SOAK_FEW, SOAK_MANY = 20_000, 300_000
"""The smaller library fills the caches of paths and the pages of rows, which are bounded."""
ALLOWED_BYTES = 4 * 1024 * 1024
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def path_of(library: DamagedLibrary, number: int) -> str:
    return library.storage.managed_path(Key(f"upload/{library.owner}/{number % 256:02x}/{number:08}-{'x' * 60}.jpg"))


async def add_rows(library: DamagedLibrary, first: int, last: int) -> None:
    """Insert rows directly: uploads would take an hour."""
    async with library.catalog.engine.begin() as connection:
        for start in range(first, last, 5_000):
            rows = [
                {
                    "id": uuid4(),
                    "owner_id": library.owner,
                    "kind": FileKind.ORIGINAL,
                    "path": path_of(library, number),
                    "state": FileState.LIVE,
                    "size": number,
                    "sha1": b"\0" * 20,
                    "crc32": 0,
                    "mime_type": "image/jpeg",
                    "created_at": MOMENT,
                    "not_before": MOMENT,
                }
                for number in range(start, min(start + 5_000, last))
            ]
            await connection.execute(insert(tables.file), rows)


async def peak(library: DamagedLibrary, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Peak memory in bytes with a listing of so many objects, of which every hundredth has no row."""

    async def listed(prefix: str = "") -> AsyncIterator[tuple[str, ObjectInfo]]:
        for number in range(count):
            path = path_of(library, number)
            yield path, ObjectInfo(path.partition("upload/")[2], number, MOMENT, "")
            if number % 100 == 0:
                yield f"{path}.gone", ObjectInfo("upload/gone.jpg", number, MOMENT, "")

    monkeypatch.setattr(library.storage, "list_managed", listed)
    tracemalloc.start()
    try:
        summary, found = await library.verify()
        assert found == []
        assert summary.files == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_it_does_not_grow_with_the_library(
    library: DamagedLibrary, monkeypatch: pytest.MonkeyPatch, soak: bool, note: Note, stack: str
) -> None:
    few, many = (SOAK_FEW, SOAK_MANY) if soak else (FEW, MANY)
    await add_rows(library, 0, few)
    small = await peak(library, few, monkeypatch)
    await add_rows(library, few, many)
    large = await peak(library, many, monkeypatch)
    note(f"verifying {few} files took {small} bytes of memory, {many} files {large} ({stack})")
    assert large - small < (ALLOWED_BYTES if soak else ALLOWED_BYTES // 2)
