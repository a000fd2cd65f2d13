"""`/metrics`: an address of its own, what each kind of request moves, and the sums over several processes."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.config import StorageEngine
from app.metrics.families import OTHER, PROCESS_FAMILIES
from tests.api.start_service import StartService
from tests.api.uploads.upload_clients import append_tus, begun_tus, create_tus, ietf_creation_fields, metadata
from tests.metrics.named_metrics import find_selectors, list_queries
from tests.real.archives import make_link
from tests.real.metrics import MetricsClient, Scrape
from tests.real.postgres import Postgres
from tests.real.process_usage import serving
from tests.real.sample_media import make_jpeg
from tests.real.service import COMMAND, Service, free_port
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import fresh_bytes, upload, uploaded
from tests.real.waiting import eventually
from tests.real.worker import Worker

DURATIONS = "http_server_request_duration_seconds_count"
FIRST_BYTES = "mediavault_time_to_first_byte_seconds_count"
UPLOADS = "mediavault_uploads_total"
SENT = "mediavault_sent_bytes_total"
RECEIVED = "mediavault_received_bytes_total"
STORAGE = "mediavault_storage_operation_duration_seconds_count"
PROCESSES = 3


@pytest.fixture(scope="module")
def metrics() -> MetricsClient:
    return MetricsClient(free_port())


@pytest.fixture(scope="module")
def service(
    stack: Engine, stacks: Stacks, metrics: MetricsClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of each stack that tells its metrics."""
    place = stacks.create(stack, tmp_path_factory.mktemp(f"metrics-{stack}"), tables=False)
    with Service(place, settings={"MEDIAVAULT_METRICS_PORT": str(metrics.port)}) as running:
        yield running


@pytest.fixture
def backend(stack: Engine) -> str:
    return stack


@pytest.fixture
def source(stack: Engine) -> str:
    return {"local": "disk", "s3": "s3"}[stack]


class Change:
    """How far the series of a service move while something is done."""

    def __init__(self, metrics: MetricsClient, act: Callable[[], Any]) -> None:
        self._before = metrics.scrape()
        act()
        self._after = metrics.scrape()

    def of(self, name: str, **labels: str) -> float:
        return self._after.sum(name, **labels) - self._before.sum(name, **labels)


def test_a_plain_upload_is_counted(client: httpx.Client, metrics: MetricsClient, backend: str) -> None:
    data = fresh_bytes(50_000)

    def act() -> None:
        uploaded(client, data)
        assert upload(client, data).status_code == 200
        assert upload(client, data, "photo.exe").status_code == 400

    change = Change(metrics, act)
    outcomes = {outcome: change.of(UPLOADS, protocol="form", outcome=outcome) for outcome in ("created", "duplicate")}
    assert outcomes == {"created": 1, "duplicate": 1}
    assert change.of(UPLOADS, protocol="form", outcome="refused") == 1
    assert change.of(UPLOADS) == 3
    assert change.of(DURATIONS, http_route="/api/assets", http_request_method="POST") == 3
    assert change.of(DURATIONS, http_route="/api/assets", http_response_status_code="201") == 1
    assert 150_000 < change.of(RECEIVED, protocol="form") < 155_000
    assert change.of(RECEIVED) == change.of(RECEIVED, protocol="form")
    assert change.of(STORAGE, backend=backend, operation="write", outcome="ok") == 1
    assert change.of("mediavault_storage_io_bytes_total", backend=backend, direction="write") >= 50_000


def test_resumable_uploads_are_counted(client: httpx.Client, metrics: MetricsClient, backend: str) -> None:
    data, other = fresh_bytes(30_000), fresh_bytes(30_000)

    def act() -> None:
        location = begun_tus(client, len(data))
        append_tus(client, location, 0, data[:10_000])
        assert append_tus(client, location, 10_000, data[10_000:]).status_code == 200
        again = begun_tus(client, len(data))
        assert append_tus(client, again, 0, data).status_code == 200
        known = f"{metadata()},checksum {hashlib.sha1(data).hexdigest()}"
        create_tus(client, len(data), headers={"upload-metadata": known})
        at_once = client.post("/api/upload", content=other, headers=ietf_creation_fields(other, is_complete=True))
        assert at_once.status_code == 201, at_once.text

    change = Change(metrics, act)
    assert change.of(UPLOADS, protocol="tus", outcome="created") == 1
    assert change.of(UPLOADS, protocol="tus", outcome="duplicate") >= 1
    assert change.of(UPLOADS, protocol="ietf", outcome="created") == 1
    assert change.of(RECEIVED, protocol="tus") == 60_000
    assert change.of(RECEIVED, protocol="ietf") == 30_000
    assert change.of(STORAGE, backend=backend, operation="resumable_commit", outcome="ok") >= 2


def test_sent_files_are_counted(
    client: httpx.Client, metrics: MetricsClient, source: str, backend: str, anonymous: httpx.Client
) -> None:
    """Also those that are answered from memory."""
    small, large = uploaded(client, fresh_bytes(10_000)), uploaded(client, fresh_bytes(900_000))
    link = make_link(client, [small, large])

    def act() -> None:
        for _ in range(4):
            assert client.get(f"/api/assets/{small}/original").status_code == 200
        ranged = client.get(f"/api/assets/{large}/original", headers={"range": "bytes=0-399999"})
        assert ranged.status_code == 206
        assert client.head(f"/api/assets/{small}/original").status_code == 200
        assert len(anonymous.get(link.path).content) == link.size

    change = Change(metrics, act)
    originals = {"http_route": "/api/assets/{id}/original"}
    assert change.of(DURATIONS, **originals, http_request_method="GET", http_response_status_code="200") == 4
    assert change.of(DURATIONS, **originals, http_request_method="GET", http_response_status_code="206") == 1
    assert change.of(DURATIONS, **originals, http_request_method="HEAD", http_response_status_code="200") == 1
    assert change.of(FIRST_BYTES, **originals) == 6
    assert change.of(DURATIONS, http_route="/api/download/archives/{token}/{name}") == 1
    assert change.of(SENT, source=source) == 4 * 10_000 + 400_000 + 910_000
    assert change.of(SENT) == change.of(SENT, source=source)
    assert change.of(STORAGE, backend=backend, operation="read", outcome="ok") >= 3


def test_what_no_route_knows_is_one_route(anonymous: httpx.Client, metrics: MetricsClient, service: Service) -> None:
    def act() -> None:
        for path in ("/nowhere", "/api/assets/none/of/these", "/metrics"):
            assert anonymous.get(path).status_code == 404
        assert anonymous.request("BREW", "/coffee").status_code == 501

    change = Change(metrics, act)
    assert change.of(DURATIONS, http_route=OTHER, http_response_status_code="404") == 3
    assert change.of(DURATIONS, http_route=OTHER, http_request_method=OTHER, http_response_status_code="501") == 1
    text = metrics.get().text
    assert not [word for word in ("nowhere", "coffee", "BREW", service.stack.folder.name) if word in text]


def test_the_public_address_knows_no_metrics(client: httpx.Client, metrics: MetricsClient) -> None:
    assert client.get("/metrics").status_code == 404
    other = httpx.get(metrics.url.replace("/metrics", "/api/server/about"), trust_env=False)
    assert (other.status_code, other.json()["message"]) == (404, "Not Found")
    assert httpx.post(metrics.url, trust_env=False).status_code == 405


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("text/plain; version=0.0.4", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=x", "text/plain"),
    ],
)
def test_the_format_is_negotiated(metrics: MetricsClient, service: Service, accept: str, content_type: str) -> None:
    response = metrics.get(accept=accept)
    assert response.headers["content-type"].startswith(content_type)
    assert response.headers["cache-control"] == "no-store"
    assert response.text.endswith("# EOF\n") is content_type.startswith("application")
    if content_type.startswith("text"):
        assert list(text_string_to_metric_families(response.text))


def test_what_a_process_holds_is_told(metrics: MetricsClient, service: Service, stack: Engine) -> None:
    scrape = metrics.scrape()
    assert {family.name for family in PROCESS_FAMILIES} <= scrape.families.keys()
    assert scrape.sum("mediavault_processes") == 1
    assert scrape.sum("mediavault_build_info", version="0.1.0") == 1
    pools = {"local": {"writer", "readers"}, "s3": {"all"}}[stack]
    assert scrape.label_values("db_client_connection_pool_name") == pools
    assert scrape.sum("db_client_connection_max") == {"local": 5, "s3": 10}[stack]
    assert scrape.sum("db_client_connection_count") == scrape.sum("db_client_connection_max")
    assert scrape.label_values("pool") == ({"reads", "calls"} if stack == "s3" else set())
    eventually(lambda: metrics.scrape().sum("mediavault_event_loop_lag_seconds_count") > 1, "the loop is measured")


def test_a_download_is_shown_while_it_runs(
    client: httpx.Client, metrics: MetricsClient, service: Service, backend: str
) -> None:
    asset = uploaded(client, fresh_bytes(8_000_000))
    with client.stream("GET", f"/api/assets/{asset}/original") as answer:
        assert answer.status_code == 200
        scrape = metrics.scrape()
        assert scrape.sum("http_server_active_requests", http_request_method="GET") == 1
        assert scrape.sum("mediavault_open_streams", backend=backend, direction="read") == 1
        assert scrape.sum("mediavault_client_connections", state="admitted") >= 1
        answer.read()
    eventually(lambda: metrics.scrape().sum("http_server_active_requests") == 0, "the request has ended")
    assert metrics.scrape().sum("mediavault_open_streams") == 0


def test_a_scrape_answers_while_the_database_hangs(start_service: StartService, postgres: Postgres) -> None:
    """With what it has."""
    metrics = MetricsClient(free_port())
    start_service("local", database="postgresql", settings={"MEDIAVAULT_METRICS_PORT": str(metrics.port)})
    eventually(lambda: metrics.scrape().sum("mediavault_collector_success") == 5, "all is read")
    with postgres.paused():
        eventually(
            lambda: metrics.scrape(timeout=5).list("mediavault_collector_success", collector="tasks") == [0],
            "the values are known to be old",
        )
        began = time.monotonic()
        scrape = metrics.scrape(timeout=5)
        assert time.monotonic() - began < 4
        assert scrape.list("mediavault_task_queue_tasks", kind="image", state="pending") == [0]
        assert scrape.sum(DURATIONS) > 0
    eventually(lambda: metrics.scrape().sum("mediavault_collector_success") == 5, "all is read again", within=60)


def test_the_last_comparison_and_the_sweep_are_told(
    client: httpx.Client, metrics: MetricsClient, service: Service
) -> None:
    uploaded(client, fresh_bytes(1000))
    assert service.run("verify").returncode == 0
    eventually(
        lambda: bool(metrics.scrape().list("mediavault_verify_findings", problem="missing")), "the result is read"
    )
    scrape = metrics.scrape()
    assert scrape.sum("mediavault_verify_findings") == scrape.sum("mediavault_verify_unrepaired_findings") == 0
    assert abs(scrape.sum("mediavault_verify_timestamp_seconds") - time.time()) < 120
    assert scrape.list("mediavault_sweep_backlog_files")


def test_no_port_no_metrics_and_a_taken_one_is_named(start_service: StartService) -> None:
    service = start_service("local")
    listening = [each for each in service.process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    assert [each.laddr.port for each in listening] == [service.port]
    other = start_service("local", settings={"MEDIAVAULT_METRICS_PORT": str(service.port)}, begin=False)
    other.launch()
    assert other.wait() == 2
    assert f"MEDIAVAULT_METRICS_PORT: port {service.port} of 127.0.0.1 is taken" in other.log
    same = start_service("local", settings={"MEDIAVAULT_METRICS_PORT": "2283", "IMMICH_PORT": "2283"}, begin=False)
    same.launch()
    assert same.wait() == 2
    assert "MEDIAVAULT_METRICS_PORT is IMMICH_PORT" in same.log


def test_the_processes_of_a_host_are_summed(start_service: StartService) -> None:
    """SIGKILL of one keeps what it has counted, and so does the replacement of all."""
    metrics = MetricsClient(free_port())
    service = start_service(
        "local",
        program=(*COMMAND, "--processes", str(PROCESSES)),
        settings={"MEDIAVAULT_METRICS_PORT": str(metrics.port)},
    )
    eventually(lambda: metrics.scrape().sum("mediavault_processes") == PROCESSES, "all processes run")

    def count(scrape: Scrape) -> float:
        return scrape.sum(DURATIONS, http_route="/livez")

    sent = 0
    with service.client() as client:

        def send() -> None:
            nonlocal sent
            for _ in range(40):
                assert client.get("/livez", headers={"connection": "close"}).status_code == 200
                sent += 1

        send()
        assert count(metrics.scrape()) == sent
        for _ in range(2):
            killed = next(iter(serving(service.process)))
            os.kill(killed, signal.SIGKILL)
            eventually(
                lambda gone=killed: len(serving(service.process)) == PROCESSES and gone not in serving(service.process),
                "another runs",
            )
            assert count(metrics.scrape()) == sent
            send()
            assert count(metrics.scrape()) == sent
        before = set(serving(service.process))
        service.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: len(serving(service.process)) == PROCESSES and not before & serving(service.process).keys(),
            "all are new",
            within=60,
        )
        send()
    assert count(metrics.scrape()) == sent
    eventually(lambda: metrics.scrape().sum("mediavault_processes") == PROCESSES, "the dead do not count")
    readers = {"db_client_connection_pool_name": "readers"}
    eventually(lambda: metrics.scrape().sum("db_client_connection_max", **readers) == 4 * PROCESSES, "nor their gauges")


def test_a_worker_tells_its_tasks(start_service: StartService, tmp_path: Path) -> None:
    """Service and worker together tell everything that the dashboard and the alert rules name."""
    service = start_service("s3", database="postgresql", settings={"MEDIAVAULT_METRICS_PORT": str(free_port())})
    queue = MetricsClient(int(service.settings["MEDIAVAULT_METRICS_PORT"]))
    metrics = MetricsClient(free_port())
    with service.client(service.people.add()) as client:
        uploaded(client, make_jpeg())
        uploaded(client, b"\xff\xd8\xff\xe0" + fresh_bytes(500))
    assert service.run("verify").returncode == 0
    service.people.call(lambda catalog: catalog.moves.begin_migration(StorageEngine.LOCAL))
    waiting = {"kind": "image", "state": "pending"}
    eventually(lambda: queue.scrape().sum("mediavault_task_queue_tasks", **waiting) == 2, "two tasks wait")
    eventually(lambda: queue.scrape().sum("mediavault_task_queue_oldest_seconds") > 0, "their age is told")
    with Worker(service, tmp_path / "worker", settings={"MEDIAVAULT_WORKER_METRICS_PORT": str(metrics.port)}) as worker:
        eventually(lambda: worker.ready, "the worker is ready")
        done = {"kind": "image", "outcome": "done"}
        counted = "mediavault_task_duration_seconds_count"
        eventually(lambda: metrics.scrape().sum(counted, **done) == 1, "a task is counted", within=60)
        eventually(lambda: metrics.scrape().sum(counted, kind="image") >= 2, "so is the other one", within=60)
        scrape = metrics.scrape()
        assert scrape.sum("mediavault_mounts", kind="media", state="ok") == 1
        assert scrape.sum("mediavault_storage_io_bytes_total", backend="s3", direction="read") > 0
        assert not scrape.list("mediavault_task_queue_tasks", **waiting)
        named = {selector.name for query in list_queries() for selector in find_selectors(query)} - {"up"}
        assert named - {name for each in (scrape, queue.scrape()) for name, _ in each.values} == set()
    eventually(lambda: queue.scrape().sum("mediavault_task_queue_tasks", **waiting) == 0, "none waits")
