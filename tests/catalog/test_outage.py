"""The log has two lines about an outage of the database; they do not hide other errors."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.catalog.database import outage
from app.catalog.database.engine import Database
from app.catalog.database.locations import parse_url
from app.catalog.database.outage import FailedWork, OutageLog
from app.catalog.errors import CatalogError, CatalogFull, CatalogUnavailable, CatalogUnreachable, NotFound
from app.storage.errors import StorageUnavailable
from tests.real.postgres import Postgres

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


async def test_a_lock_connection_that_is_refused_while_queries_are_answered_is_no_outage(postgres: Postgres) -> None:
    """The role may have one connection, which the pool has."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as administration:
        administration.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 1")
        database = Database(parse_url(postgres.url("postgres").replace("postgres:@", "limited:@")))
        try:
            with capture_logs() as lines:
                async with database.read() as connection:
                    await connection.execute(text("SELECT 1"))
                with pytest.raises(CatalogUnavailable, match="too many connections") as refused:
                    async with database.dedicated_connection():
                        pass
                assert not database.outages.record_failure(refused.value)
            assert warnings(lines) == []
        finally:
            await database.aclose()
            administration.execute("DROP ROLE limited")
