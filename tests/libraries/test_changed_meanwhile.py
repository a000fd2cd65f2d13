"""What is asked of a library, or changed of it, while it is scanned."""

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
    """Holds the walks of scans: after the first listing of one folder, until it is opened."""

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
async def libraries(shelf: LibraryTree, db_url: str, tmp_path: Path) -> AsyncIterator[LibraryService]:
    values = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"), "MEDIAVAULT_LIBRARY_WATCH": False}
    made = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with LibraryService(shelf.catalog, made).running() as running:
        yield running


async def test_what_a_scan_passed_by_is_found_by_the_one_that_was_asked_for_meanwhile(
    shelf: LibraryTree, libraries: LibraryService, turnstile: Turnstile
) -> None:
    shelf.write("a.jpg")
    turnstile.hold_after(shelf.root)
    libraries.start_scan(shelf.id)
    await turnstile.reached()
    shelf.write("late.jpg")
    libraries.start_scan(shelf.id)
    turnstile.open()
    await shows(shelf, {"a.jpg", "late.jpg"})


async def test_a_person_who_accepts_what_is_missing_is_heard_while_a_scan_runs(
    shelf: LibraryTree, libraries: LibraryService, turnstile: Turnstile
) -> None:
    paths = shelf.fill(30)
    await shelf.scan()
    for path in paths:
        path.unlink()
    turnstile.hold_after(shelf.root)
    libraries.start_scan(shelf.id)
    await turnstile.reached()
    libraries.start_scan(shelf.id, accept_missing=True)
    libraries.start_scan(shelf.id)
    turnstile.open()
    await shows(shelf, set())
    assert len(await shelf.names(trashed=True)) == 30


async def test_other_import_paths_hold_for_a_scan_that_runs(
    shelf: LibraryTree, libraries: LibraryService, turnstile: Turnstile, tmp_path: Path
) -> None:
    shelf.write("first.jpg")
    other = tmp_path / "other"
    other.mkdir()
    (other / "second.jpg").write_bytes(b"photo")
    turnstile.hold_after(shelf.root)
    libraries.start_scan(shelf.id)
    await turnstile.reached()
    await libraries.update(shelf.id, {"import_paths": (str(other),)})
    turnstile.open()
    await shows(shelf, {str(other / "second.jpg")})
    assert await shelf.names(trashed=True) == set()


async def test_nothing_is_written_by_settings_that_do_not_hold_any_more(shelf: LibraryTree) -> None:
    shelf.write("a.jpg")
    await shelf.scan()
    stale, asset = await shelf.library(), (await shelf.assets())["a.jpg"]
    await shelf.change(name="Another name")
    await LibraryScan(shelf.catalog, stale, shelf.threads).run()
    shelf.write("Raw/b.jpg")
    await shelf.change(exclusion_patterns=("**/Raw/**",))
    scanned = (await shelf.library()).last_scan
    with pytest.raises(LibraryChanged):
        await LibraryScan(shelf.catalog, stale, shelf.threads).run()
    with pytest.raises(LibraryChanged):
        await shelf.catalog.library_files.trash(stale, [asset.id])
    assert await shelf.names() == {"a.jpg"}
    assert (await shelf.library()).last_scan == scanned


async def test_what_was_being_written_at_first_belongs_to_a_complete_scan_once_it_rests(
    shelf: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watched library is measured by what was in it when it came to rest."""
    shelf.fill(25)
    settled = {"MEDIAVAULT_LIBRARY_SETTLE_SECONDS": 2}
    async with watching(shelf, db_url, tmp_path, monkeypatch, **settled):

        async def begun() -> bool:
            return (await shelf.library()).last_scan is not None

        async def complete() -> bool:
            library = await shelf.library()
            return library.scanned_at is not None and library.files == 26

        await eventually(begun, "the first scan has ended")
        shelf.write("late.jpg")
        await eventually(complete, "all that is there was seen by one scan")
        for path in (shelf.root / "album").iterdir():
            path.unlink()

        async def away() -> bool:
            return (await shelf.library()).state is LibraryState.UNMOUNTED

        await eventually(away, "that so much is missing is noticed")
    assert len(await shelf.names()) == 26
