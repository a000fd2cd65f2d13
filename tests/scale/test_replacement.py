"""Processes are restarted and replaced one after the other, under load: no request fails."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.notes import Note
from tests.real.process_usage import serving
from tests.real.service import Service
from tests.real.stacks import Stacks
from tests.real.waiting import eventually
from tests.scale.checks import check_originals
from tests.scale.installation import SERVICES, running_installation
from tests.scale.load import KINDS, Load
from tests.scale.request_log import Outcome

SHORT_ROUNDS, LONG_ROUNDS = 1, 20
PAUSE_SECONDS = 0.3
REPLACE_SECONDS = 90.0
MORE_REQUESTS = 20
PROGRAM = ("-m", "app.cli", "serve", "--no-worker", "--processes", str(SERVICES))


def test_a_rolling_restart_fails_no_request(tmp_path: Path, stacks: Stacks, soak: bool, seed: int, note: Note) -> None:
    place = stacks.create("s3", tmp_path / "service")
    with running_installation(tmp_path, place, workers=0) as installation:
        load = Load(installation.url, installation.api[0].people, random.Random(seed), pause=PAUSE_SECONDS)
        with unharmed(load, "three replicas are restarted", note):
            for _ in range(LONG_ROUNDS if soak else SHORT_ROUNDS):
                for service in installation.api:
                    assert service.stop() == 0
                    service.start()
        for service in installation.api:
            for account, library in load.libraries:
                check_originals(service, account, library)


def test_a_replacement_of_all_processes_fails_no_request(
    tmp_path: Path, stacks: Stacks, soak: bool, seed: int, note: Note
) -> None:
    settings = {"MEDIAVAULT_DRAIN_SECONDS": "30"}
    with Service(stacks.create("s3", tmp_path / "service"), settings=settings, program=PROGRAM) as service:
        load = Load(service.url, service.people, random.Random(seed), pause=PAUSE_SECONDS)
        with unharmed(load, "three processes are replaced", note):
            for _ in range(LONG_ROUNDS if soak else SHORT_ROUNDS):
                before = set(serving(service.process))
                service.process.send_signal(signal.SIGHUP)
                eventually(lambda old=before: is_replaced(service, old), "all are new", within=REPLACE_SECONDS)
        for account, library in load.libraries:
            check_originals(service, account, library)
        assert "a serving process ended" not in service.log


@contextmanager
def unharmed(load: Load, what: str, note: Note) -> Iterator[None]:
    """Requests of all kinds are sent within the block, also before and after what happens there, and all are answered whole."""

    def await_more(number: int) -> None:
        enough = load.log.count(Outcome.WHOLE) + number
        eventually(
            lambda: load.has_failed or load.log.count(Outcome.WHOLE) >= enough, "requests are answered", within=60
        )

    with load.running():
        eventually(lambda: load.has_failed or load.log.kinds >= KINDS, "requests of all kinds are answered", within=60)
        yield
        await_more(MORE_REQUESTS)
    note(f"{what}: {load.log.describe()}")
    assert load.log.failures == {}


def is_replaced(service: Service, before: set[int]) -> bool:
    now = set(serving(service.process))
    return len(now) == SERVICES and not now & before
