"""Fixtures of the API's tests: running services on both stacks, accounts and clients, and a consistency check after every test."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.api.consistency import assert_consistent
from tests.api.shared_services import SharedServices
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import COMMAND, Service
from tests.real.stacks import ENGINES, Database, Engine, Stacks


@pytest.fixture(scope="session", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    """`local` (a folder and SQLite) or `s3` (a prefix of a bucket, with credentials for that prefix only, and PostgreSQL)."""
    return request.param


@pytest.fixture(scope="session")
def shared_services(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServices]:
    """The services that tests share, one of each stack at a time."""
    shared = SharedServices(stacks, tmp_path_factory)
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def service(stack: Engine, shared_services: SharedServices) -> Service:
    """The shared service of each stack. A test that stops, breaks or configures a service uses `start_service`."""
    return shared_services.get(stack)


@pytest.fixture
def start_service(stacks: Stacks, tmp_path: Path) -> Iterator[StartService]:
    """Starts services for one test, `start_service(engine, settings=…, server=…)`; checks the consistency of each at the end. Without
    `begin` the service is not started, and the database has no tables."""
    with ExitStack() as cleanup:
        started: list[Service] = []

        def start(
            engine: Engine,
            *,
            server: SeaweedFS | None = None,
            database: Database | None = None,
            begin: bool = True,
            settings: Mapping[str, str] | None = None,
            program: Sequence[str] = COMMAND,
            wrap: Sequence[str] = (),
            spawned: bool = True,
        ) -> Service:
            place = tmp_path / f"service-{len(started)}"
            stack = stacks.create(engine, place, server=server, database=database, tables=begin)
            service = Service(stack, settings=settings, program=program, wrap=wrap, spawned=spawned)
            cleanup.callback(shutil.rmtree, stack.media, ignore_errors=True)
            cleanup.callback(service.close)
            started.append(service)
            if begin:
                service.start()
            return service

        yield start
        for service in started:
            if service.running:
                assert_consistent(service.stack)


@pytest.fixture(autouse=True)
def check_consistency(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, assert that catalogue and storage of its service are consistent."""
    uses_service = "service" in request.fixturenames
    service: Service | None = request.getfixturevalue("service") if uses_service else None
    shared: SharedServices | None = request.getfixturevalue("shared_services") if uses_service else None
    yield
    if service is not None and shared is not None:
        assert_consistent(service.stack, engine=shared.get_engine(service))


@pytest.fixture
def account(service: Service) -> Account:
    """A new user of the session's service, with an API key of all permissions."""
    return service.people.add()


@pytest.fixture
def other_account(service: Service) -> Account:
    """A second new user."""
    return service.people.add()


@pytest.fixture
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    """A blocking client with the key of `account`."""
    with service.client(account) as client:
        yield client


@pytest.fixture
def other_client(service: Service, other_account: Account) -> Iterator[httpx.Client]:
    """A blocking client with the key of `other_account`."""
    with service.client(other_account) as client:
        yield client


@pytest.fixture
def anonymous(service: Service) -> Iterator[httpx.Client]:
    """A blocking client without a key."""
    with service.client() as client:
        yield client


@pytest.fixture
def exclusive_network(tmp_path_factory: pytest.TempPathFactory, *, soak: bool) -> Iterator[None]:
    """In the long campaigns, tests with thousands of connections run one at a time, also across pytest's processes: together
    they exhaust the kernel's memory for TCP, and it resets connections of both."""
    with (tmp_path_factory.getbasetemp().parent / "network.lock").open("w") as lock:
        if soak:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
