"""Traces: a collector gets a span for each request, call of the storage and task, in the trace of the client, without secrets."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.tracing import TracingUnavailable, open_tracing
from tests.api.start_service import StartService
from tests.real.sample_media import make_jpeg
from tests.real.service import COMMAND, WORKING
from tests.real.uploads import upload, uploaded
from tests.real.waiting import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TASK_SECONDS = 60


class Collector:
    """Receives spans by OTLP over HTTP. `spans`: name, trace id, own id, parent's id, attributes, and the service's name."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.received = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.add(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def add(self, body: bytes) -> None:
        self.received += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = read_attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        {
                            "name": span.name,
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "service": service,
                            **read_attributes(span.attributes),
                        }
                    )

    def find(self, name: str, **attributes: str) -> list[dict[str, Any]]:
        return [span for span in list(self.spans) if span["name"] == name and attributes.items() <= span.items()]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def read_attributes(attributes: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.close()


def test_requests_storage_calls_and_tasks_have_spans(start_service: StartService, collector: Collector) -> None:
    service = start_service("s3", settings={**collector.settings, "MEDIAVAULT_LOG_FORMAT": "json"}, program=WORKING)
    account = service.people.add()
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    with service.client(account) as client:
        answer = upload(client, make_jpeg(64, 48), headers=headers)
        assert answer.status_code == 201
        photo = answer.json()["id"]
        eventually(
            lambda: client.get(f"/api/assets/{photo}/thumbnail", headers={"connection": "close"}).status_code == 200,
            "the thumbnail is made",
            within=TASK_SECONDS,
        )
        assert client.get(f"/api/assets/{photo}/original?apiKey={account.key}").status_code == 200
        assert client.get("/api/assets/no-id").status_code == 400
    service.stop()

    [posted] = collector.find("POST /api/assets")
    assert (posted["trace"], posted["parent"], posted["service"]) == (TRACE_ID, "00f067aa0ba902b7", "mediavault")
    assert posted["http.response.status_code"] == 201
    stored = collector.find("storage write", trace=TRACE_ID) + collector.find("storage put", trace=TRACE_ID)
    assert [span["parent"] for span in stored] == [posted["id"]]
    assert stored[0]["mediavault.storage.backend"] == "s3"
    [task] = collector.find("task image", **{"mediavault.asset.id": photo})
    assert {span["parent"] for span in collector.find("storage write", trace=task["trace"])} == {task["id"]}
    [original] = collector.find("GET /api/assets/{id}/original")
    assert original["url.path"] == f"/api/assets/{photo}/original"
    assert account.key.encode() not in collector.received


@pytest.mark.parametrize("backlog", [None, 1], ids=["away", "hangs"])
def test_a_collector_that_does_not_answer_stops_nothing(start_service: StartService, backlog: int | None) -> None:
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        if backlog is not None:
            collector.listen(backlog)
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
        service = start_service("local", settings={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        with service.client(service.people.add()) as client:
            uploaded(client, make_jpeg(64, 48))
        assert service.stop() == 0


async def test_without_the_packages_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(TracingUnavailable, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: .*mediavault\[otel\]"):
        async with open_tracing("1"):
            pass


def test_nothing_is_loaded_where_no_collector_is_named(start_service: StartService) -> None:
    program = ("-X", "importtime", *COMMAND)
    service = start_service("local", program=program, spawned=False)
    service.stop()
    assert "fastapi" in service.log
    assert "opentelemetry.sdk" not in service.log
