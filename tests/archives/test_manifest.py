"""`Manifest`: packing and unpacking give the same entries, and damaged or foreign data is refused."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.archives.errors import ManifestUnreadable
from app.archives.manifest import ENTRIES_PER_LINE, Manifest, ManifestEntry

moments = st.datetimes(datetime(1, 1, 2), datetime(9998, 12, 30)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
entries = st.builds(
    ManifestEntry,
    asset_id=st.uuids(),
    kind=st.just("original"),
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    size=st.integers(0, 2**63),
    crc32=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    modified=moments,
    checksum=st.one_of(st.none(), st.binary(min_size=20, max_size=20)),
)


def some_entry(number: int = 0) -> ManifestEntry:
    moment = datetime(2024, 1, 2, tzinfo=UTC) + timedelta(seconds=number)
    return ManifestEntry(uuid4(), "original", f"{number} é.jpg", number, number, moment, bytes(20))


@given(st.lists(entries, max_size=5))
def test_what_is_stored_comes_back(made: list[ManifestEntry]) -> None:
    manifest = Manifest(tuple(made))
    again = Manifest.unpack(manifest.pack())

    assert again == manifest
    assert again.etag == manifest.etag
    assert again.is_resumable == all(entry.crc32 is not None for entry in made)


@pytest.mark.parametrize(
    "count", [0, 1, ENTRIES_PER_LINE - 1, ENTRIES_PER_LINE, ENTRIES_PER_LINE + 1, 3 * ENTRIES_PER_LINE]
)
def test_any_number_of_entries_comes_back(count: int) -> None:
    manifest = Manifest(tuple(some_entry(number) for number in range(count)))

    assert Manifest.unpack(manifest.pack()) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other.jpg"},
        {"size": 8},
        {"crc32": 8},
        {"crc32": None},
        {"checksum": bytes(19) + b"1"},
        {"modified": datetime(2024, 1, 3, tzinfo=UTC)},
        {"asset_id": uuid4()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_the_bytes_depend_on_changes_the_etag(change: dict[str, object]) -> None:
    entry = some_entry(7)

    assert Manifest((replace(entry, **change),)).etag != Manifest((entry,)).etag  # pyright: ignore[reportArgumentType]
    assert Manifest((entry,)).etag == Manifest((entry,)).etag


def test_the_order_and_the_number_of_entries_change_the_etag() -> None:
    one, two = some_entry(1), some_entry(2)

    assert len({Manifest(order).etag for order in [(one, two), (two, one), (one,), (one, one), ()]}) == 5


def test_the_etag_is_strong_and_quoted() -> None:
    etag = Manifest((some_entry(),)).etag

    assert etag.startswith('"')
    assert etag.endswith('"')
    assert etag.isascii()


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode())


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no zlib",
        Manifest((some_entry(),)).pack()[:-3],
        Manifest((some_entry(),), layout_version=999).pack(),
        _packed(""),
        _packed("[]"),
        _packed("{}"),
        _packed('{"layout":1}\n7'),
        _packed('{"layout":1}\n[[1,2]]'),
        _packed('{"layout":1}\n[[1,2,3,4,5,6,7]]'),
        _packed('{"layout":1}\n' + json.dumps([["x" * 32, "original", "a", 1, 1, "never", None]])),
    ],
)
def test_what_is_damaged_or_of_another_layout_is_refused(packed: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        Manifest.unpack(packed)


def test_a_small_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.archives.manifest.MAX_MANIFEST_BYTES", 10_000)

    with pytest.raises(ManifestUnreadable):
        Manifest.unpack(_packed('{"layout":1}\n' + "[" * 1_000_000))


def test_times_keep_their_offset() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    manifest = Manifest((replace(some_entry(), modified=moment),))

    assert Manifest.unpack(manifest.pack()).etag == manifest.etag
