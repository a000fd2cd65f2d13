"""A folder that is moved from one library to another while catalogue rows of the first still have its paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog.schema.records import FileKind, FileState
from app.libraries.patterns.exclusions import DEFAULT_EXCLUSIONS
from tests.catalog.rows import file_states, make, make_user
from tests.libraries.library_tree import LibraryTree


async def make_other_library(tree: LibraryTree, *paths: Path) -> LibraryTree:
    """Creates a library of another owner over these folders."""
    owner = await make_user(tree.catalog)
    library = await tree.catalog.libraries.create(owner.id, "B", tuple(map(str, paths)), DEFAULT_EXCLUSIONS)
    return LibraryTree(paths[0], tree.catalog, library, tree.threads)


@pytest.mark.parametrize("given_up", ["scanned since", "not scanned since", "removed"])
async def test_a_folder_that_left_one_library_is_taken_in_by_another(
    tree: LibraryTree, tmp_path: Path, given_up: str
) -> None:
    tree.fill(3)
    await tree.scan()
    before = await tree.assets()
    asset = before["album/IMG_00001.jpg"]
    _, made = await make(tree.catalog, asset, FileKind.THUMBNAIL)
    if given_up == "removed":
        await tree.catalog.libraries.mark_for_removal(tree.id)
    else:
        (tmp_path / "elsewhere").mkdir()
        await tree.change(import_paths=(str(tmp_path / "elsewhere"),))
    if given_up == "scanned since":
        assert (await tree.scan()).trashed == 3
    other = await make_other_library(tree, tree.root)
    report = await other.scan()
    assert (report.new, report.complete, report.unreadable_count) == (3, True, 0)
    assert await other.names() == {f"album/IMG_{number:05}.jpg" for number in range(3)}
    assert [await tree.catalog.assets.get(former.id) for former in before.values()] == [None] * 3
    assert (await file_states(tree.catalog))[made[FileKind.THUMBNAIL]] is FileState.DOOMED
    report = await other.scan()
    assert (report.found, report.new, report.changed, report.trashed) == (3, 0, 0, 0)


async def test_what_another_library_holds_is_named_and_the_rest_taken_in(tree: LibraryTree, tmp_path: Path) -> None:
    tree.fill(2)
    await tree.scan()
    before = await tree.assets()
    more = tmp_path / "more"
    more.mkdir()
    (more / "own.jpg").write_bytes(b"photo")
    other = await make_other_library(tree, more, tree.root)
    for new in (1, 0):  # reported by each scan for as long as the conflict lasts
        report = await other.scan()
        assert (report.new, report.complete, report.unreadable_count) == (new, True, 2)
        assert report.unreadable == tuple(
            f"{tree.root}/album/IMG_{number:05}.jpg: belongs to the library 'NAS'" for number in range(2)
        )
    assert await other.names() == {"own.jpg"}
    assert await tree.assets() == before
    await tree.change(import_paths=())
    assert (await other.scan()).new == 2


async def test_a_file_is_not_renamed_to_a_path_that_another_library_holds(tree: LibraryTree, tmp_path: Path) -> None:
    tree.write("theirs.jpg")
    await tree.scan()
    more = tmp_path / "more"
    more.mkdir()
    ours = more / "ours.jpg"
    ours.write_bytes(b"another photo")
    other = await make_other_library(tree, more, tree.root)
    await other.scan()
    ours.rename(tree.root / "theirs.jpg")
    report = await other.scan()
    assert (report.renamed, report.trashed, report.unreadable_count) == (0, 1, 1)
    assert await other.names() == set()
    assert await tree.names() == {"theirs.jpg"}
