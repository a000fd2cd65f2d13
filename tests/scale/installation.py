"""A whole installation on one machine: processes that serve, behind nginx, workers, PostgreSQL and SeaweedFS."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.campaign.steps import SharedPage
from tests.real.databases import DatabaseFactory
from tests.real.elections import Stop
from tests.real.front_server import read_blocks
from tests.real.nginx import Nginx
from tests.real.postgres import Postgres
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.stacks import Stack, Stacks
from tests.real.worker import Worker
from tests.scale.activities import PAGE_STEPS

SERVICES = WORKERS = 3
START_SECONDS = 90.0
SETTINGS = {"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1", "MEDIAVAULT_DRAIN_DELAY": "1", "MEDIAVAULT_DRAIN_SECONDS": "30"}
PROGRAM = ("-m", "tests.scale.observed_program")


class ObservedProcess:
    """A service or worker that shows what it is doing. `part`: API or worker. `killed`: when its processes were killed, by id. `stops`: when they
    were stopped."""

    def __init__(self, part: str, runner: Service | Worker, page: SharedPage) -> None:
        self.part = part
        self.runner = runner
        self.page = page
        self.killed: dict[int, datetime] = {}
        self.stops: list[Stop] = []

    def kill(self) -> None:
        self.killed[self.runner.process.pid] = datetime.now(UTC)
        self.runner.kill()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it (SIGSTOP) within the block."""
        process, begun = self.runner.process.pid, datetime.now(UTC)
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)
            self.stops.append(Stop(process, begun, datetime.now(UTC)))

    def start(self) -> None:
        """Start it again until it is ready: a start fails while the database is away."""
        end = time.monotonic() + START_SECONDS
        while not self._is_ready_after_start():
            assert time.monotonic() < end, f"{self.part} does not start:\n{self.runner.log[-3000:]}"

    def _is_ready_after_start(self) -> bool:
        self.page.clear()
        if isinstance(self.runner, Service):
            try:
                self.runner.start()
            except RuntimeError:
                return False
            return True
        self.runner.start()
        while self.runner.running and not self.runner.ready:
            time.sleep(0.02)
        return self.runner.running


@dataclass(slots=True)
class Installation:
    stack: Stack
    nginx: Nginx
    services: list[ObservedProcess] = field(default_factory=list)
    workers: list[ObservedProcess] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.nginx.port}"

    @property
    def processes(self) -> list[ObservedProcess]:
        return [*self.services, *self.workers]

    @property
    def api(self) -> list[Service]:
        """The processes that serve, as the tests otherwise know them."""
        return [each.runner for each in self.services if isinstance(each.runner, Service)]

    @property
    def logs(self) -> list[str]:
        return [each.runner.log for each in self.processes]

    @property
    def killed(self) -> dict[int, datetime]:
        return {pid: at for each in self.processes for pid, at in each.killed.items()}

    @property
    def stops(self) -> list[Stop]:
        return [stop for each in self.processes for stop in each.stops]

    def stop(self) -> None:
        """Stop all of its processes in an orderly way."""
        for each in self.processes:
            assert each.runner.stop() == 0, each.runner.log[-3000:]


@contextmanager
def own_database(folder: Path, store: SeaweedFS) -> Iterator[tuple[Stack, Postgres]]:
    """A stack on a PostgreSQL of its own, which may be restarted. `store` may be shared with other tests."""
    with Postgres() as postgres, closing(DatabaseFactory(lambda: postgres)) as databases:
        yield Stacks(lambda: store, databases).create("s3", folder / "service"), postgres


@contextmanager
def running_installation(folder: Path, place: Stack, *, workers: int = WORKERS) -> Iterator[Installation]:
    with ExitStack() as stack:
        services: list[ObservedProcess] = []
        ports: list[int] = []
        for number in range(SERVICES):
            page = folder / f"page-of-service-{number}"
            settings = {**SETTINGS, "MEDIAVAULT_TEST_PAGE": str(page)}
            service = Service(place, settings=settings, program=(*PROGRAM, "serve", "--no-worker"))
            stack.callback(_end_service, service)
            services.append(ObservedProcess("API", service, SharedPage(page, PAGE_STEPS)))
            ports.append(service.port)
        nginx = stack.enter_context(Nginx(folder, *ports, servers=read_example()))
        made = Installation(place, nginx, services)
        for number in range(workers):
            page = folder / f"page-of-worker-{number}"
            settings = {"MEDIAVAULT_TEST_PAGE": str(page)}
            worker = Worker(made.api[0], folder / f"worker-{number}", settings=settings, program=(*PROGRAM, "worker"))
            stack.callback(_end_worker, worker)
            made.workers.append(ObservedProcess("worker", worker, SharedPage(page, PAGE_STEPS)))
        for each in made.processes:
            each.start()
        yield made


def read_example() -> str:
    """nginx's configuration as it is documented."""
    return read_blocks("nginx")[0]


def _end_service(service: Service) -> None:
    service.kill()
    service.people.close()


def _end_worker(worker: Worker) -> None:
    if worker.running:
        worker.kill()
