"""The nightly scan: when it is due, and that every library is then scanned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.config import Settings
from app.libraries import service
from app.libraries.scanning.scan_schedule import next_scan_at
from app.libraries.service import LibraryService
from tests.libraries.library_tree import LibraryTree
from tests.libraries.test_events import eventually, shows

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "after", "due"),
    [
        ("04:00", "2026-01-10T03:59:59+01:00", "2026-01-10T04:00:00+01:00"),
        ("04:00", "2026-01-10T04:00:00+01:00", "2026-01-11T04:00:00+01:00"),
        ("04:00", "2026-01-10T04:00:01+01:00", "2026-01-11T04:00:00+01:00"),
        ("00:00", "2026-12-31T23:59:59+01:00", "2027-01-01T00:00:00+01:00"),
        ("04:00", "2026-01-10T23:30:00+00:00", "2026-01-11T04:00:00+01:00"),
        # The nights in which clocks change: local time.
        ("04:00", "2026-03-28T12:00:00+01:00", "2026-03-29T04:00:00+02:00"),
        ("04:00", "2026-10-24T12:00:00+02:00", "2026-10-25T04:00:00+01:00"),
        ("02:30", "2026-03-28T12:00:00+01:00", "2026-03-29T03:30:00+02:00"),
        # A local time that comes twice in that night counts once.
        ("02:30", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("02:30", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
    ],
)
def test_it_is_due_when_clocks_show_its_time(at: str, after: str, due: str) -> None:
    found = next_scan_at(at, datetime.fromisoformat(after), BERLIN)
    assert found is not None
    # Compared in UTC: aware times of two zones are never equal within an hour that comes twice, or not at all.
    assert found.astimezone(UTC) == datetime.fromisoformat(due).astimezone(UTC)


def test_it_may_be_off() -> None:
    assert next_scan_at("off", datetime.now(UTC)) is None


def test_it_is_due_within_a_day_of_this_machines_clock() -> None:
    moment = datetime(2026, 6, 1, 12, 34, tzinfo=UTC)
    due = next_scan_at("03:00", moment)
    assert due is not None
    assert timedelta(0) < due - moment <= timedelta(hours=25)
    local = due.astimezone()
    assert (local.hour, local.minute) == (3, 0)


class Clock:
    """A settable clock for the process that monitors the libraries."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(service, "datetime", clock)
    monkeypatch.setattr(service, "LEADER_CHECK_SECONDS", 0.1)
    return clock


async def test_every_library_is_scanned_night_after_night(
    tree: LibraryTree, db_url: str, tmp_path: Path, clock: Clock
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.jpg").write_bytes(b"photo")
    catalog = tree.catalog
    second = await catalog.libraries.create((await tree.library()).owner_id, "Second", (str(other),), ())
    tree.write("a.jpg")
    values = {
        "DB_URL": db_url,
        "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"),
        "MEDIAVAULT_LIBRARY_WATCH": False,
        "MEDIAVAULT_LIBRARY_SCAN_AT": "03:00",
    }
    settings = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    rounds = 0
    listed = catalog.libraries.list

    async def counted() -> object:
        nonlocal rounds
        rounds += 1
        return await listed()

    async def looked() -> bool:
        return rounds > before + 2

    async def second_scanned() -> bool:
        library = await catalog.libraries.get(second.id)
        return library is not None and library.files == 1

    catalog.libraries.list = counted  # pyright: ignore[reportAttributeAccessIssue]
    async with LibraryService(catalog, settings).running():
        before = 0
        await eventually(looked, "the libraries are kept")
        assert await tree.names() == set(), "it is not due yet"
        clock.moment += timedelta(days=1)
        await shows(tree, {"a.jpg"})
        await eventually(second_scanned, "the other library is scanned, too")
        tree.write("later.jpg")
        before = rounds
        await eventually(looked, "the libraries are looked at again")
        assert await tree.names() == {"a.jpg"}, "once a night"
        clock.moment += timedelta(days=1)
        await shows(tree, {"a.jpg", "later.jpg"})
