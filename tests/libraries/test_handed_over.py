"""A folder that moves from one library to another, whose catalogue rows still name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog.schema.records import FileKind, FileState
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS
from tests.catalog.rows import file_states, make, make_user
from tests.libraries.library_tree import LibraryTree


async def another(shelf: LibraryTree, *paths: Path) -> LibraryTree:
    """Another owner's library, over these folders."""
    owner = await make_user(shelf.catalog)
    library = await shelf.catalog.libraries.create(owner.id, "B", tuple(map(str, paths)), DEFAULT_EXCLUSIONS)
    return LibraryTree(paths[0], shelf.catalog, library, shelf.threads)


@pytest.mark.parametrize("given_up", ["scanned since", "not scanned since", "removed"])
async def test_a_folder_that_left_one_library_is_taken_in_by_another(
    shelf: LibraryTree, tmp_path: Path, given_up: str
) -> None:
    shelf.fill(3)
    await shelf.scan()
    before = await shelf.assets()
    asset = before["album/IMG_00001.jpg"]
    _, made = await make(shelf.catalog, asset, FileKind.THUMBNAIL)
    if given_up == "removed":
        await shelf.catalog.libraries.mark_for_removal(shelf.id)
    else:
        (tmp_path / "elsewhere").mkdir()
        await shelf.change(import_paths=(str(tmp_path / "elsewhere"),))
    if given_up == "scanned since":
        assert (await shelf.scan()).trashed == 3
    other = await another(shelf, shelf.root)
    report = await other.scan()
    assert (report.new, report.complete, report.unreadable_count) == (3, True, 0)
    assert await other.names() == {f"album/IMG_{number:05}.jpg" for number in range(3)}
    assert [await shelf.catalog.assets.get(former.id) for former in before.values()] == [None] * 3
    assert (await file_states(shelf.catalog))[made[FileKind.THUMBNAIL]] is FileState.DOOMED
    report = await other.scan()
    assert (report.found, report.new, report.changed, report.trashed) == (3, 0, 0, 0)


async def test_what_another_library_holds_is_named_and_the_rest_taken_in(shelf: LibraryTree, tmp_path: Path) -> None:
    shelf.fill(2)
    await shelf.scan()
    before = await shelf.assets()
    more = tmp_path / "more"
    more.mkdir()
    (more / "own.jpg").write_bytes(b"photo")
    other = await another(shelf, more, shelf.root)
    for new in (1, 0):  # by each scan, for as long as it is so
        report = await other.scan()
        assert (report.new, report.complete, report.unreadable_count) == (new, True, 2)
        assert report.unreadable == tuple(
            f"{shelf.root}/album/IMG_{number:05}.jpg: belongs to the library 'NAS'" for number in range(2)
        )
    assert await other.names() == {"own.jpg"}
    assert await shelf.assets() == before
    await shelf.change(import_paths=())
    assert (await other.scan()).new == 2


async def test_a_file_is_not_renamed_to_a_path_that_another_library_holds(shelf: LibraryTree, tmp_path: Path) -> None:
    shelf.write("theirs.jpg")
    await shelf.scan()
    more = tmp_path / "more"
    more.mkdir()
    ours = more / "ours.jpg"
    ours.write_bytes(b"another photo")
    other = await another(shelf, more, shelf.root)
    await other.scan()
    ours.rename(shelf.root / "theirs.jpg")
    report = await other.scan()
    assert (report.renamed, report.trashed, report.unreadable_count) == (0, 1, 1)
    assert await other.names() == set()
    assert await shelf.names() == {"theirs.jpg"}
