"""The log's volume is bounded: for requests of anonymous clients, and during an outage of the database."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import httpx
import pytest
from structlog.testing import capture_logs

from app.api.http.refusal_log import MAX_LINES_PER_CLIENT, RefusalLog
from tests.api.start_service import StartService
from tests.real.accounts import Account, AccountFactory
from tests.real.postgres import Postgres
from tests.real.service import WORKING, Service
from tests.real.uploads import FORM_TYPE, UploadConnection, fresh_bytes
from tests.real.waiting import eventually

BURST = 200
MOST_LINES = 15
OF_START_AND_STOP = re.compile(r"this process is elected|this process gives its work up|the service stops")


def test_a_burst_of_bad_requests_is_summed_up(start_service: StartService) -> None:
    service = start_service("local")
    before = len(service.log)
    for number in range(BURST):
        with UploadConnection(service.port) as wire:
            wire.send(b"Good morning\r\n\r\n" if number % 2 else b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.answer().status in (400, 501)
    service.stop()
    lines = [line for line in service.log[before:].splitlines() if not OF_START_AND_STOP.search(line)]

    assert len(lines) <= MOST_LINES
    [summed] = [line for line in lines if "more requests refused" in line]
    assert f"count={BURST - 10}" in summed
    assert "client=127.0.0.1" in summed


def test_an_ipv6_network_is_one_client() -> None:
    refusals = RefusalLog()
    with capture_logs() as lines:
        for number in range(BURST):
            refusals.log_refusal("request refused", f"2001:db8::{number:x}", 400, "This is no HTTP request", "0")
            refusals.log_cut_short(
                "answer cut short", f"2001:db8::1:{number:x}", "The client took nothing for 1 seconds"
            )
        refusals.log_refusal("request refused", "2001:db8:0:1::1", 400, "This is no HTTP request", "0")
        refusals.flush(include_current=True)

    assert len(lines) == MAX_LINES_PER_CLIENT + 2
    assert lines[0]["client"] == "2001:db8::0"
    assert lines[-2]["client"] == "2001:db8:0:1::1"
    assert lines[-1]["client"] == "2001:db8::/64"
    assert lines[-1]["statuses"] == {
        "400": BURST - MAX_LINES_PER_CLIENT // 2,
        "cut short": BURST - MAX_LINES_PER_CLIENT // 2,
    }


@pytest.mark.parametrize("outage", ["stopped", pytest.param("paused", marks=pytest.mark.soak)])
def test_an_outage_of_the_database_is_one_line_and_its_end_another(
    start_service: StartService, tmp_path: Path, outage: Literal["stopped", "paused"]
) -> None:
    requests = BURST // 2 if outage == "stopped" else 0  # the paused one would answer them in the end
    with Postgres() as own:
        settings = {"DB_URL": own.create_database(), "MEDIAVAULT_LIBRARY_WATCH": "true"}
        service = start_service("local", settings=settings, program=WORKING)
        with service.client() as client:
            add_library(service, tmp_path / "library")
            before = len(service.log)
            with own.stopped() if outage == "stopped" else own.paused():
                for _ in range(requests):
                    answer = client.get("/api/users/me", headers={"x-api-key": "unknown"})
                    assert answer.status_code == 503
                eventually(lambda: client.get("/readyz").status_code == 503, "it is not ready")
                if outage == "stopped":
                    eventually(lambda: "work=background" in service.log, "a loop in the background has failed")
                with UploadConnection(service.port) as wire:
                    wire.send(b"Good morning\r\n\r\n")
                    assert wire.answer().status == 400
            eventually(
                lambda: client.get("/readyz").status_code == 200 and "reachable again" in service.log,
                "the end of the outage is logged",
                within=60,
            )
        service.kill()
    lines = [line for line in service.log[before:].splitlines() if "[debug" not in line and "[info" not in line]

    assert len(lines) == 3, "\n".join(lines)
    assert re.search(r"warning.* the catalogue is unreachable .* database=\S+:5432/test_\w+ reason=.* since=", lines[0])
    assert "request refused" in lines[1]
    assert re.search(r"warning.* the catalogue is reachable again .* seconds=[0-9.]+", lines[2])
    assert f"requests={requests} " in lines[2]
    assert re.search(r"checks=[1-9]", lines[2])
    if outage == "stopped":
        assert re.search(r"background=[1-9]", lines[2])


def add_library(service: Service, folder: Path) -> None:
    """Add a library that is watched."""
    folder.mkdir()
    people = AccountFactory(replace(service.stack, db_url=service.settings["DB_URL"]))
    try:
        admin_client = people.add(is_admin=True)
        with service.client(admin_client) as client:
            library = {"ownerId": str(admin_client.id), "name": "Share", "importPaths": [str(folder)]}
            assert client.post("/api/libraries", json=library).status_code == 201
    finally:
        people.close()


@pytest.mark.parametrize("leave", ["end", "vanish", "close"])
def test_a_client_that_left_is_no_failure(service: Service, account: Account, client: httpx.Client, leave: str) -> None:
    before = len(service.log)
    form = {**account.headers, "content-type": FORM_TYPE, "content-length": "3000000"}
    text = {**account.headers, "content-type": "application/json", "content-length": "300"}
    requests = [
        *(("GET", path, account.headers) for path in ("/api/users/me", "/api/server/statistics", "/readyz", "/docs")),
        *(("POST", path, form) for path in ("/api/assets", "/api/users/profile-image")),
        *(("POST", path, text) for path in ("/api/search/metadata", "/api/auth/login", "/api/download/info")),
    ]
    for method, path, fields in requests:
        for sent in (b"", b"{" + fresh_bytes(20).hex().encode()):
            with UploadConnection(service.port) as wire:
                wire.send_head(method, path, fields)
                wire.send(sent if "content-length" in fields else b"")
                if leave != "close":
                    getattr(wire, leave)()
    assert client.get("/livez").status_code == 200

    assert "Traceback" not in service.log[before:]
    assert "status=500" not in service.log[before:]
