"""What a stranger, or a database that is gone, can write into the log is bounded."""

from __future__ import annotations

import httpx
import pytest
from structlog.testing import capture_logs

from app.api.refusal_log import LINES, RefusalLog
from tests.api.starting import StartService
from tests.real.awaiting import eventually
from tests.real.people import Account
from tests.real.postgres import Postgres
from tests.real.service import WORKING, Service
from tests.real.uploading import FORM_TYPE, Wire, fresh_bytes

BURST = 200
MOST_LINES = 15


def test_a_burst_of_bad_requests_is_summed_up(start_service: StartService) -> None:
    service = start_service("local")
    before = len(service.log)
    for number in range(BURST):
        with Wire(service.port) as wire:
            wire.send(b"Good morning\r\n\r\n" if number % 2 else b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.answer().status in (400, 501)
    service.stop()
    lines = service.log[before:].splitlines()

    assert len(lines) <= MOST_LINES
    [summed] = [line for line in lines if "more requests refused" in line]
    assert f"count={BURST - 10}" in summed
    assert "client=127.0.0.1" in summed


def test_an_ipv6_network_is_one_client() -> None:
    refusals = RefusalLog()
    with capture_logs() as lines:
        for number in range(BURST):
            refusals.note("request refused", f"2001:db8::{number:x}", 400, "This is no HTTP request", "0")
            refusals.note_cut("answer cut short", f"2001:db8::1:{number:x}", "The client took nothing for 1 seconds")
        refusals.note("request refused", "2001:db8:0:1::1", 400, "This is no HTTP request", "0")
        refusals.flush(everything=True)

    assert len(lines) == LINES + 2
    assert lines[0]["client"] == "2001:db8::0"
    assert lines[-2]["client"] == "2001:db8:0:1::1"
    assert lines[-1]["client"] == "2001:db8::/64"
    assert lines[-1]["statuses"] == {"400": BURST - LINES // 2, "cut short": BURST - LINES // 2}


def test_a_database_that_is_gone_fills_no_log(start_service: StartService, postgres: Postgres) -> None:
    with Postgres() as own:
        service = start_service(
            "local", settings={"DB_URL": own.create_database(), "MEDIAVAULT_LIBRARY_WATCH": "true"}, program=WORKING
        )
        with service.client() as client:
            before = len(service.log)
            with own.stopped():
                for _ in range(BURST // 2):
                    answer = client.get("/api/users/me", headers={"x-api-key": "unknown"})
                    assert answer.status_code == 503
                eventually(lambda: client.get("/readyz").status_code == 503, "it is not ready")
                lines = service.log[before:].splitlines()
            eventually(lambda: client.get("/readyz").status_code == 200, "the database is there again", within=60)
        service.kill()

    assert not [line for line in lines if "Traceback" in line]
    assert len(lines) <= 2 * MOST_LINES, "\n".join(lines)


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
            with Wire(service.port) as wire:
                wire.send_head(method, path, fields)
                wire.send(sent if "content-length" in fields else b"")
                if leave != "close":
                    getattr(wire, leave)()
    assert client.get("/livez").status_code == 200

    assert "Traceback" not in service.log[before:]
    assert "status=500" not in service.log[before:]
