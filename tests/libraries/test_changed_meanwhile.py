"""Requests for scans, and changes of a library, while a scan of it runs."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.catalog.errors import LibraryChanged
from app.catalog.schema.library_records import LibraryState
from app.config import Settings
from app.libraries.scanning import walk
from app.libraries.scanning.scan import LibraryScan
from app.libraries.service import LibraryService
from tests.libraries.library_tree import LibraryTree
from tests.libraries.test_events import eventually, shows, watching

MOST_SECONDS = 60.0


class Turnstile:
    """Pauses the walk of a scan after the first listing of one folder, until `open` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = ""
        self._reached = threading.Event()
        self._opened = threading.Event()
        listed = walk.FolderWalk._list

        def held(walking: walk.FolderWalk, folder: str, deep: bool) -> Iterator[walk.FolderListing]:
            yield from listed(walking, folder, deep)
            if folder == self._folder and not self._reached.is_set():
                self._reached.set()
                assert self._opened.wait(MOST_SECONDS)

        monkeypatch.setattr(walk.FolderWalk, "_list", held)

    def hold_after(self, folder: Path) -> None:
        self._folder = str(folder)

    async def reached(self) -> None:
        async def there() -> bool:
            return self._reached.is_set()

        await eventually(there, "the scan comes to the folder")

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def turnstile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Turnstile]:
    made = Turnstile(monkeypatch)
    yield made
    made.open()


@pytest.fixture
async def libraries(tree: LibraryTree, db_url: str, tmp_path: Path) -> AsyncIterator[LibraryService]:
    values = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"), "MEDIAVAULT_LIBRARY_WATCH": False}
    made = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with LibraryService(tree.catalog, made).running() as running:
        yield running


async def test_what_a_scan_passed_by_is_found_by_the_one_that_was_asked_for_meanwhile(
    tree: LibraryTree, libraries: LibraryService, turnstile: Turnstile
) -> None:
    tree.write("a.jpg")
    turnstile.hold_after(tree.root)
    libraries.start_scan(tree.id)
    await turnstile.reached()
    tree.write("late.jpg")
    libraries.start_scan(tree.id)
    turnstile.open()
    await shows(tree, {"a.jpg", "late.jpg"})


async def test_a_person_who_accepts_what_is_missing_is_heard_while_a_scan_runs(
    tree: LibraryTree, libraries: LibraryService, turnstile: Turnstile
) -> None:
    paths = tree.fill(30)
    await tree.scan()
    for path in paths:
        path.unlink()
    turnstile.hold_after(tree.root)
    libraries.start_scan(tree.id)
    await turnstile.reached()
    libraries.start_scan(tree.id, accept_missing=True)
    libraries.start_scan(tree.id)
    turnstile.open()
    await shows(tree, set())
    assert len(await tree.names(trashed=True)) == 30


async def test_other_import_paths_hold_for_a_scan_that_runs(
    tree: LibraryTree, libraries: LibraryService, turnstile: Turnstile, tmp_path: Path
) -> None:
    tree.write("first.jpg")
    other = tmp_path / "other"
    other.mkdir()
    (other / "second.jpg").write_bytes(b"photo")
    turnstile.hold_after(tree.root)
    libraries.start_scan(tree.id)
    await turnstile.reached()
    await libraries.update(tree.id, {"import_paths": (str(other),)})
    turnstile.open()
    await shows(tree, {str(other / "second.jpg")})
    assert await tree.names(trashed=True) == set()


async def test_nothing_is_written_by_settings_that_do_not_hold_any_more(tree: LibraryTree) -> None:
    tree.write("a.jpg")
    await tree.scan()
    stale, asset = await tree.library(), (await tree.assets())["a.jpg"]
    await tree.change(name="Another name")
    await LibraryScan(tree.catalog, stale, tree.threads).run()
    tree.write("Raw/b.jpg")
    await tree.change(exclusion_patterns=("**/Raw/**",))
    scanned = (await tree.library()).last_scan
    with pytest.raises(LibraryChanged):
        await LibraryScan(tree.catalog, stale, tree.threads).run()
    with pytest.raises(LibraryChanged):
        await tree.catalog.library_files.trash(stale, [asset.id])
    assert await tree.names() == {"a.jpg"}
    assert (await tree.library()).last_scan == scanned


async def test_what_was_being_written_at_first_belongs_to_a_complete_scan_once_it_rests(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offline guard compares with the files that a watched library had once all of them had settled."""
    tree.fill(25)
    settled = {"MEDIAVAULT_LIBRARY_SETTLE_SECONDS": 2}
    async with watching(tree, db_url, tmp_path, monkeypatch, **settled):

        async def begun() -> bool:
            return (await tree.library()).last_scan is not None

        async def complete() -> bool:
            library = await tree.library()
            return library.scanned_at is not None and library.files == 26

        await eventually(begun, "the first scan has ended")
        tree.write("late.jpg")
        await eventually(complete, "all that is there was seen by one scan")
        for path in (tree.root / "album").iterdir():
            path.unlink()

        async def away() -> bool:
            return (await tree.library()).state is LibraryState.UNMOUNTED

        await eventually(away, "that so much is missing is noticed")
    assert len(await tree.names()) == 26
