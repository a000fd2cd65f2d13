"""The log has two lines about an outage of the database; they do not hide other errors."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.catalog.database import outage
from app.catalog.database.engine import Database, parse_url
from app.catalog.database.outage import FailedWork, OutageLog
from app.catalog.errors import CatalogError, CatalogFull, CatalogUnavailable, CatalogUnreachable, NotFound
from app.storage.errors import StorageUnavailable

UNREACHABLE = CatalogUnreachable("connection refused")


def warnings(lines: Sequence[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] != "debug"]


async def test_the_line_names_the_server_without_credentials() -> None:
    database = Database(parse_url("postgresql://anna:secret@db.example:6543/photos?sslpassword=hidden"))
    with capture_logs() as lines:
        assert database.outages.record_failure(UNREACHABLE, FailedWork.REQUEST)
        assert database.outages.record_failure(UNREACHABLE)
        await database.aclose()

    began, ended = (line for line in lines if line["log_level"] == "warning")
    assert (began["database"], began["reason"]) == ("db.example:6543/photos", "connection refused")
    assert (ended["requests"], ended["background"], ended["checks"]) == (1, 1, 0)
    assert ended["event"] == "the catalogue was unreachable until the end"
    assert not [line for line in lines if "secret" in str(line) or "hidden" in str(line) or "anna" in str(line)]


def test_a_database_that_answers_some_calls_only_is_one_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    outages = OutageLog("db:5432/photos")
    with capture_logs() as lines:
        for _ in range(100):
            assert outages.record_failure(UNREACHABLE)
            outages.record_answer()
        monkeypatch.setattr(outage, "QUIET_SECONDS", 0.0)
        outages.record_answer()
        outages.record_answer()

    assert warnings(lines) == ["the catalogue is unreachable", "the catalogue is reachable again"]
    assert lines[-1]["background"] == 100


def test_what_else_fails_meanwhile_is_logged() -> None:
    outages = OutageLog("db:5432/photos")
    others = [
        CatalogFull("no room"),
        NotFound("asset", []),
        StorageUnavailable("a.jpg", "s3", "refused"),
        TimeoutError(),
    ]
    with capture_logs():
        assert outages.record_failure(UNREACHABLE)

        assert [error for error in others if outages.record_failure(error)] == []
        assert outages.record_failure(TimeoutError(), FailedWork.CHECK)


def test_one_slow_call_is_no_outage() -> None:
    outages = OutageLog("db:5432/photos")
    began = time.monotonic()
    assert isinstance(outages.build_timeout_error(began, "no answer"), CatalogUnreachable)
    outages.record_answer()
    slow = outages.build_timeout_error(began, "no answer")

    assert type(slow) is CatalogUnavailable
    assert not outages.record_failure(slow)


def test_calls_that_waited_since_before_the_end_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "QUIET_SECONDS", 0.0)
    outages = OutageLog("db:5432/photos")
    late: CatalogError = CatalogUnavailable("no connection after 30 s")
    assert not outages.record_failure(late)
    with capture_logs() as lines:
        outages.record_failure(UNREACHABLE)
        outages.record_answer()

        assert outages.record_failure(late)
        assert not outages.record_failure(late, FailedWork.REQUEST)
    assert warnings(lines) == ["the catalogue is unreachable", "the catalogue is reachable again"]
