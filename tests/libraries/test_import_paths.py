"""Concurrent requests for the same import paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.catalog import open_catalog
from app.catalog.errors import CatalogUnavailable
from app.catalog.schema.library_records import Library
from app.config import Settings
from app.libraries import service
from app.libraries.errors import InvalidLibrary
from app.libraries.service import LibraryService
from tests.libraries.library_tree import LibraryTree


@pytest.fixture
async def processes(db_url: str, tmp_path: Path, tree: LibraryTree) -> AsyncIterator[list[LibraryService]]:
    """Two library services that share a catalogue, as two processes do."""
    values = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}
    made = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    other = await open_catalog(db_url)
    processes = [LibraryService(tree.catalog, made), LibraryService(other, made)]
    yield processes
    for each in processes:
        each.close()
    await other.aclose()


async def test_one_of_those_who_ask_for_a_path_at_once_has_it(
    tree: LibraryTree, processes: list[LibraryService], tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted"
    (wanted / "below").mkdir(parents=True)
    owner = (await tree.library()).owner_id
    paths = [wanted, wanted / "below", wanted, wanted / "below"]
    asked = [
        processes[number % 2].create(owner, f"Library {number}", [str(path)], []) for number, path in enumerate(paths)
    ]
    changed = processes[1].update(tree.id, {"import_paths": (str(tree.root), str(wanted))})
    answers = await asyncio.gather(*asked, changed, return_exceptions=True)
    assert [type(answer) for answer in answers if not isinstance(answer, Library)] == [InvalidLibrary] * 4, answers
    kept = [path for library in await tree.catalog.libraries.list() for path in library.import_paths]
    assert len([path for path in kept if path.startswith(str(wanted))]) == 1


async def test_who_waits_too_long_for_others_is_told_so(
    tree: LibraryTree, processes: list[LibraryService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATHS_LOCK_SECONDS", 0.2)
    owner = (await tree.library()).owner_id
    async with tree.catalog.try_lock("library-paths") as lock:
        assert lock is not None
        with pytest.raises(CatalogUnavailable):
            await processes[1].create(owner, "Another", [], [])
    assert (await processes[1].create(owner, "Another", [], [])).name == "Another"
