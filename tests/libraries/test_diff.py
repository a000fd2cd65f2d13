"""What became of the files of a folder, as tables: what was found and what was known in, decisions out."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

import pytest

from app.catalog.schema.library_records import KnownFile, ListedFile
from app.libraries.scanning.diff import FolderDiff, diff_folder, digest_files, find_renamed, identify_file

FOUND: ListedFile = ("a.jpg", 1, 10, 5, 100)
ASSET = UUID(int=1)


def known(number: int, name: str, found: ListedFile, *, missing: bool = False) -> KnownFile:
    return KnownFile(UUID(int=number), UUID(int=0), name, *found[1:], missing)


FORMER = known(1, "a.jpg", FOUND)


@pytest.mark.parametrize(
    ("stat", "decision"),
    [
        ((1, 10, 5, 100), None),
        ((1, 10, 6, 100), "changed"),
        ((1, 10, 5, 101), "changed"),
        ((2, 10, 5, 100), "refreshed"),
        ((2, 10, 6, 100), "replaced"),
        ((2, 10, 5, 101), "replaced"),
        ((1, 11, 5, 100), "replaced"),
        ((2, 11, 6, 101), "replaced"),
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", [True, False], ids=["was missing", "was there"])
def test_a_file_under_a_known_name(stat: tuple[int, int, int, int], decision: str | None, missing: bool) -> None:
    """The numbers are device, inode, size and time. A disk that is mounted under another number holds the same files."""
    found: ListedFile = ("a.jpg", *stat)
    former = known(1, "a.jpg", FOUND, missing=missing)
    expected = FolderDiff()
    if decision in ("changed", "refreshed"):
        getattr(expected, decision).append((ASSET, found))
    if decision == "replaced":
        expected.replaced.append((former, found))
    elif missing:
        expected.returned.append(ASSET)

    assert diff_folder([found], [former]) == expected


def test_what_was_not_known_is_new_and_what_was_there_is_gone() -> None:
    there, missing = known(1, "b.jpg", ("b.jpg", 1, 11, 5, 100)), known(2, "c.jpg", FOUND, missing=True)

    assert diff_folder([FOUND], [there, missing]) == FolderDiff(new=[FOUND], gone=[UUID(int=1)])


def test_each_file_of_a_folder_is_looked_at() -> None:
    listed: list[ListedFile] = [
        ("a.jpg", 1, 10, 5, 100),
        ("b.jpg", 1, 11, 5, 100),
        ("c.jpg", 1, 12, 6, 100),
        ("d.jpg", 2, 13, 5, 100),
        ("e.jpg", 1, 14, 5, 100),
        ("f.jpg", 1, 15, 5, 100),
    ]
    before = [
        known(2, "b.jpg", ("b.jpg", 1, 99, 5, 100)),
        known(3, "c.jpg", ("c.jpg", 1, 12, 5, 100)),
        known(4, "d.jpg", ("d.jpg", 1, 13, 5, 100)),
        known(5, "e.jpg", listed[4], missing=True),
        known(7, "g.jpg", ("g.jpg", 1, 16, 5, 100)),
    ]

    assert diff_folder(listed, before) == FolderDiff(
        new=[listed[0], listed[5]],
        changed=[(UUID(int=3), listed[2])],
        refreshed=[(UUID(int=4), listed[3])],
        replaced=[(before[0], listed[1])],
        returned=[UUID(int=5)],
        gone=[UUID(int=7)],
    )


def test_an_inode_that_the_disk_gave_to_another_file_is_no_rename() -> None:
    for other in (
        ("b.jpg", 1, 10, 6, 100),
        ("b.jpg", 1, 10, 5, 101),
        ("b.jpg", 2, 10, 5, 100),
        ("b.jpg", 1, 9, 5, 100),
    ):
        assert find_renamed([other], [FORMER]) == {}
    assert find_renamed([("c.jpg", 1, 9, 5, 100), ("b.jpg", 1, 10, 5, 100)], [FORMER]) == {1: FORMER}


def test_of_two_known_links_of_one_file_the_one_that_was_there_until_now_is_renamed() -> None:
    found = ("c.jpg", 1, 10, 5, 100)
    lost, there = known(1, "a.jpg", found, missing=True), known(2, "b.jpg", found)
    assert find_renamed([found], [lost, there]) == {0: there}
    assert find_renamed([found], [there, lost]) == {0: there}


def test_of_two_known_links_of_one_file_the_one_of_the_same_name_went_to_another_folder() -> None:
    same, other = known(1, "a.jpg", FOUND), known(2, "b.jpg", FOUND)
    assert find_renamed([FOUND], [same, other]) == {0: same}
    assert find_renamed([FOUND], [other, same]) == {0: same}


def test_each_known_file_is_found_once() -> None:
    """A second hard link is a new file."""
    first, second, third = ((name, *FOUND[1:]) for name in ("x.jpg", "y.jpg", "z.jpg"))
    other = known(2, "b.jpg", FOUND)
    assert find_renamed([first, second, third], [FORMER, other]) == {0: FORMER, 1: other}


def test_a_file_is_known_by_what_a_rename_leaves_alone() -> None:
    assert identify_file(FORMER) == (1, 10, 5, 100)


def test_a_digest_changes_with_each_field_of_each_file_and_not_with_the_order() -> None:
    files: list[ListedFile] = [FOUND, ("b.jpg", 1, 11, 6, 200), ("é.jpg", 1, 12, 7, 300)]
    before = digest_files(list(files))
    changed: list[list[ListedFile]] = [
        files[:2],
        [*files, ("d.jpg", 1, 13, 8, 400)],
        [*files[:2], ("e.jpg", 1, 12, 7, 300)],
        [("a.jpgb.jpg", 1, 10, 5, 100), ("", 1, 11, 6, 200), files[2]],
        [FOUND, ("b.jpg", 2, 11, 6, 200), files[2]],
        [FOUND, ("b.jpg", 1, 12, 6, 200), files[2]],
        [FOUND, ("b.jpg", 1, 11, 7, 200), files[2]],
        [FOUND, ("b.jpg", 1, 11, 6, 201), files[2]],
    ]

    assert all(digest_files(list(order)) == before for order in permutations(files))
    assert len(before) == 20
    assert len({before, *map(digest_files, changed)}) == len(changed) + 1


def test_a_digest_takes_a_time_before_1970() -> None:
    scanned: list[ListedFile] = [("a.jpg", 1, 10, 5, -1)]

    assert digest_files(scanned) != digest_files([("a.jpg", 1, 10, 5, -2)])
