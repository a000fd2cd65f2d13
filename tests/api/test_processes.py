"""`serve --processes`: several processes serve on one port; a process that ends is replaced, and a stop or a replacement fails no request."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.elections import assert_never_two, read_terms
from tests.real.process_usage import serving
from tests.real.service import Service
from tests.real.uploads import assert_next_upload_works, fresh_bytes, uploaded
from tests.real.waiting import eventually

PROCESSES = 3
PROGRAM = ("-m", "app.cli", "serve", "--no-worker", "--processes", str(PROCESSES))


@pytest.fixture(params=["local", "s3"])
def service(start_service: StartService, request: pytest.FixtureRequest) -> Service:
    started = start_service(request.param, program=PROGRAM)
    eventually(lambda: len(serving(started.process)) == PROCESSES, "all processes run")
    return started


class SteadyClient:
    """Sends requests all the time, on persistent connections and on new ones, and records their outcomes."""

    def __init__(self, service: Service, path: str, headers: dict[str, str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self._service = service
        self._path = path
        self._headers = headers
        self._done = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._send, args=(persistent,)) for persistent in (True, False)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def _send(self, persistent: bool) -> None:
        fields = self._headers | ({} if persistent else {"connection": "close"})
        with httpx.Client(base_url=self._service.url, headers=fields, timeout=20) as client:
            while not self._done.is_set():
                try:
                    self.outcomes[str(client.get(self._path).status_code)] += 1
                except httpx.HTTPError as error:
                    self.outcomes[type(error).__name__] += 1


def test_a_process_that_ends_is_replaced(service: Service) -> None:
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(100_000))
        for _ in range(2):
            before = serving(service.process)
            killed = next(iter(before))
            os.kill(killed, signal.SIGKILL)
            eventually(
                lambda known=before: len(serving(service.process).keys() - known.keys()) == 1, "another one runs"
            )
            assert killed not in serving(service.process)
            assert client.get(f"/api/assets/{asset}", headers={"connection": "close"}).status_code == 200
        assert_next_upload_works(client)
    assert service.log.count("a serving process ended") == 2
    assert service.stop() == 0
    assert "Traceback" not in service.log


def test_another_process_takes_over_what_one_does_for_all(service: Service) -> None:
    """Within ten seconds, and never two at once."""
    killed: dict[int, datetime] = {}

    def find_elected() -> dict[str, int]:
        """The process that was elected last, of each kind of work."""
        return {work: terms[-1].process for work, terms in read_terms([service.log], killed).items()}

    eventually(lambda: find_elected().keys() == {"sweeper", "schedules"}, "all work is done")
    for _ in range(2):
        former = find_elected()["sweeper"]
        killed[former] = datetime.now(UTC)
        os.kill(former, signal.SIGKILL)
        eventually(lambda: not killed.keys() & set(find_elected().values()), "another one does it", within=10)
    assert set(find_elected().values()) <= serving(service.process).keys()
    assert service.stop() == 0
    terms = read_terms([service.log], killed)
    assert sum(map(len, terms.values())) >= 4
    assert_never_two(terms)


def test_processes_are_replaced_without_a_failed_request(service: Service) -> None:
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(100_000))
    before = set(serving(service.process))
    steady = SteadyClient(service, f"/api/assets/{asset}/original", account.headers)
    with steady.running():
        service.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: len(serving(service.process)) == PROCESSES and not before & serving(service.process).keys(),
            "all are new",
            within=60,
        )
    assert steady.outcomes.total() > 10
    assert steady.outcomes == {"200": steady.outcomes.total()}
    assert "a serving process ended" not in service.log


def test_a_stop_ends_all_processes(service: Service) -> None:
    """An init system may signal each of them, too."""
    before = serving(service.process)
    for process in (service.process, *before.values()):
        process.send_signal(signal.SIGTERM)
    assert service.wait() == 0
    assert not [process for process in before.values() if process.is_running()]
    assert "a serving process ended" not in service.log


def test_processes_end_with_their_supervisor(service: Service) -> None:
    before = serving(service.process)
    service.process.kill()
    eventually(lambda: not any(each.is_running() for each in before.values()), "they have ended")
    service.start()


def test_a_start_that_fails_says_why_once(start_service: StartService) -> None:
    service = start_service("local", program=PROGRAM, begin=False, settings={"DB_URL": "sqlite:////proc/nowhere.db"})
    service.launch()
    assert service.wait() == 3
    assert service.log.count("mediavault: DB_URL") == 1
