"""What becomes of a batch's files whose names tell nothing, as tables: each decision, and what it leaves for later."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.catalog.schema.library_records import KnownFile, ListedFile, ScanChanges, ScannedFile
from app.catalog.schema.records import AssetType
from app.libraries.scanning.renames import UnmatchedFile, UnresolvedFiles, build_scanned_file, resolve_renames

SECOND = 10**9
LISTED: ListedFile = ("1.jpg", 1, 10, 5, 100 * SECOND)
SCANNED = ScannedFile("/b", LISTED, AssetType.IMAGE, "image/jpeg", datetime(1970, 1, 1, 0, 1, 40, tzinfo=UTC))
NEIGHBOUR: ListedFile = ("2.jpg", 1, 11, 6, 100 * SECOND)


def known(number: int, listed: ListedFile, *, missing: bool = False) -> KnownFile:
    return KnownFile(UUID(int=number), UUID(int=0), *listed, missing)


OTHER_CONTENT: ListedFile = ("1.jpg", 1, 20, 7, 100 * SECOND)
COPY: ListedFile = ("1.jpg", 1, 20, 5, 100 * SECOND)


@pytest.mark.parametrize("all_seen", [True, False])
def test_a_new_name_of_no_known_file_is_a_new_asset(all_seen: bool) -> None:
    changes = ScanChanges()
    left = resolve_renames([UnmatchedFile("/b", LISTED)], {}, changes, all_seen=all_seen)
    assert changes == ScanChanges(new=[SCANNED])
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("all_seen", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_a_known_file_under_a_new_name_keeps_its_asset(all_seen: bool, missing: bool) -> None:
    changes = ScanChanges()
    former = known(1, ("old.jpg", *LISTED[1:]), missing=missing)
    left = resolve_renames([UnmatchedFile("/b", LISTED)], {0: former}, changes, all_seen=all_seen)
    assert changes == ScanChanges(renamed=[(UUID(int=1), SCANNED)], returned=[UUID(int=1)] if missing else [])
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("missing", [True, False])
def test_whose_name_was_taken_is_looked_for_unless_it_was_missing_before(missing: bool) -> None:
    changes = ScanChanges()
    owner = known(2, OTHER_CONTENT, missing=missing)
    left = resolve_renames([UnmatchedFile("/b", LISTED, owner)], {0: known(1, LISTED)}, changes, all_seen=True)
    assert changes == ScanChanges(renamed=[(UUID(int=1), SCANNED)], displaced=[(UUID(int=2), SCANNED)])
    assert left == UnresolvedFiles(displaced={} if missing else {UUID(int=2): "/b"})


@pytest.mark.parametrize("all_seen", [True, False])
def test_two_that_took_each_others_names_are_both_found(all_seen: bool) -> None:
    changes = ScanChanges()
    first, second = known(1, ("2.jpg", *LISTED[1:])), known(2, ("1.jpg", *NEIGHBOUR[1:]))
    arrivals = [UnmatchedFile("/b", LISTED, second), UnmatchedFile("/b", NEIGHBOUR, first)]
    left = resolve_renames(arrivals, {0: first, 1: second}, changes, all_seen=all_seen)
    other = build_scanned_file("/b", NEIGHBOUR)
    assert changes == ScanChanges(
        renamed=[(UUID(int=1), SCANNED), (UUID(int=2), other)],
        displaced=[(UUID(int=2), SCANNED), (UUID(int=1), other)],
    )
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("all_seen", [True, False])
def test_a_new_file_under_the_name_of_one_that_was_found_elsewhere_is_a_new_asset(all_seen: bool) -> None:
    changes = ScanChanges()
    moved = known(1, ("1.jpg", *NEIGHBOUR[1:]))
    arrivals = [UnmatchedFile("/b", LISTED, moved), UnmatchedFile("/c", NEIGHBOUR)]
    left = resolve_renames(arrivals, {1: moved}, changes, all_seen=all_seen)
    assert changes == ScanChanges(new=[SCANNED], renamed=[(UUID(int=1), build_scanned_file("/c", NEIGHBOUR))])
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("all_seen", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_a_copy_with_the_size_and_time_of_the_file_whose_name_it_has_is_that_file(
    all_seen: bool, missing: bool
) -> None:
    changes = ScanChanges()
    owner = known(1, COPY, missing=missing)
    left = resolve_renames([UnmatchedFile("/b", LISTED, owner)], {}, changes, all_seen=all_seen)
    assert changes == ScanChanges(refreshed=[(UUID(int=1), LISTED)], returned=[UUID(int=1)] if missing else [])
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("missing", [True, False])
def test_other_content_is_a_changed_file_once_nothing_can_turn_up_elsewhere(missing: bool) -> None:
    changes = ScanChanges()
    owner = known(1, OTHER_CONTENT, missing=missing)
    left = resolve_renames([UnmatchedFile("/b", LISTED, owner)], {}, changes, all_seen=True)
    assert changes == ScanChanges(changed=[(UUID(int=1), SCANNED)], returned=[UUID(int=1)] if missing else [])
    assert left == UnresolvedFiles()


@pytest.mark.parametrize("missing", [True, False])
def test_other_content_waits_for_the_rest_of_the_scan(missing: bool) -> None:
    changes = ScanChanges()
    owner = known(1, OTHER_CONTENT, missing=missing)
    left = resolve_renames([UnmatchedFile("/b", LISTED, owner)], {}, changes, all_seen=False)
    assert changes == ScanChanges()
    assert left == UnresolvedFiles(folders={"/b"})


@pytest.mark.parametrize(
    ("name", "kind", "mime_type"),
    [("a.JPG", AssetType.IMAGE, "image/jpeg"), ("a.mov", AssetType.VIDEO, "video/quicktime")],
)
def test_a_files_kind_follows_from_its_name(name: str, kind: AssetType, mime_type: str) -> None:
    listed: ListedFile = (name, 1, 10, 5, 1_500_000_000)
    modified = datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert build_scanned_file("/b", listed) == ScannedFile("/b", listed, kind, mime_type, modified)


def test_a_file_of_no_known_type_is_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match=r"^a file of no known type was listed$"):
        build_scanned_file("/b", ("a.txt", 1, 10, 5, 100))
