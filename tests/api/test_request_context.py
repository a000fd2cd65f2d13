"""Ids of a request: the client's own are kept if they are plain, and log lines name request, user, asset and trace."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.api.shared_services import SharedServices
from tests.api.start_service import StartService
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_log_line_names_request_user_asset_and_trace(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_LOG_FORMAT": "json"})
    account = service.people.add()
    ids = {"x-request-id": "phone.42_a-b", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(100_000))
        [path] = [path for path, size in service.stack.objects().items() if size == 100_000]
        stored = Path(path)
        whole = stored.read_bytes()
        stored.write_bytes(whole[:10])
        answer = client.get(f"/api/assets/{asset.upper()}/original", headers=ids)
        stored.write_bytes(whole)

    assert answer.status_code >= 500
    assert answer.headers["x-correlation-id"] == "phone.42_a-b"
    assert answer.json()["correlationId"] == "phone.42_a-b"
    eventually(lambda: "phone.42_a-b" in service.log, "the failure is logged")
    [line] = [json.loads(line) for line in service.log.splitlines() if "phone.42_a-b" in line]
    assert line["correlation_id"] == "phone.42_a-b"
    assert line["user_id"] == str(account.id)
    assert line["asset_id"] == asset
    assert line["trace_id"] == TRACE_ID


def test_an_id_that_is_not_plain_is_replaced(shared_services: SharedServices) -> None:
    with shared_services.get("local").client() as client:
        for path in ("/api/server/ping", "/api/nothing"):
            for sent in (b"", b"a b", b"x" * 65, "é".encode(), b'a"b', b"a;b", b"../etc"):
                answer = client.get(path, headers={b"x-request-id": sent})
                assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-correlation-id"]), sent
            assert client.get(path, headers={"x-request-id": "x" * 64}).headers["x-correlation-id"] == "x" * 64
