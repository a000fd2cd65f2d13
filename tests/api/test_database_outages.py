"""The database is away for a while: what was read shortly before is still served, everything else is answered 503 in time, and all of it works
again when the database is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import httpx
import pytest

from app.api.ttl_cache import TTL_SECONDS
from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.real.accounts import AccountFactory
from tests.real.postgres import Postgres
from tests.real.uploads import fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

IN_TIME = 20.0
"""Proxies wait for a minute or half of one. The service itself takes eight seconds at most; the machine may be busy."""
AT_ONCE = 30
REQUESTS = ("/api/assets/statistics", "/api/timeline/buckets", "/api/api-keys")

Outage = Literal["stopped", "paused"]


@contextmanager
def outage_of(server: Postgres, kind: Outage) -> Iterator[None]:
    with server.stopped() if kind == "stopped" else server.paused():
        yield


@pytest.mark.parametrize("kind", ["stopped", "paused"])
def test_an_outage_of_the_database(start_service: StartService, kind: Outage, *, soak: bool) -> None:
    with Postgres() as server:
        service = start_service("local", settings={"DB_URL": server.create_database()})
        stack = replace(service.stack, db_url=service.settings["DB_URL"])
        people = AccountFactory(stack)
        try:
            account = people.add()
            with service.client(account, timeout=IN_TIME) as client, ThreadPoolExecutor(AT_ONCE) as threads:
                data = fresh_bytes(300_000)
                seen, unseen = (f"/api/assets/{uploaded(client, each)}/original" for each in (data, fresh_bytes(1000)))
                assert client.get(seen).content == data
                began = time.monotonic()
                with outage_of(server, kind):
                    # With them all of the pool's connections wait, and others wait for one of these.
                    for refused in threads.map(client.get, REQUESTS * (AT_ONCE // len(REQUESTS))):
                        assert_unavailable(refused)
                    while time.monotonic() - began < (60 if soak else TTL_SECONDS + 2):
                        assert client.get(seen).content == data
                        assert client.get(seen, headers={"range": "bytes=5-99"}).content == data[5:100]
                        assert_unavailable(client.get(unseen))
                        assert_unavailable(upload(client, fresh_bytes(1000)))
                        assert client.get("/livez").status_code == 200
                eventually(lambda: client.get(unseen).status_code == 200, "reads work again")
                eventually(lambda: client.get("/readyz").status_code == 200, "it is ready again")
                uploaded(client, fresh_bytes(1000))
                for path in REQUESTS:
                    assert client.get(path).status_code == 200
            assert_consistent(stack)
        finally:
            people.close()
            service.kill()


def assert_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["status"] == 503
