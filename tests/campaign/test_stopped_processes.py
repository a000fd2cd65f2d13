"""Two processes serve the same uploads, by tus and the IETF draft, while they are stopped (SIGSTOP), woken up and killed at random, and
clients go on at the other one.

What a stopped process still holds (bytes, locks, open transactions) must do no harm when it wakes up.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.api.consistency import assert_consistent
from tests.api.uploads.upload_clients import (
    TUS,
    append_ietf,
    append_tus,
    completeness,
    create_tus,
    ietf_creation_fields,
)
from tests.campaign.upload_speakers import NEWEST_VERSION, OLDER_VERSIONS
from tests.real.accounts import Account
from tests.real.notes import Note
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import some_bytes

PROGRAM = ("-m", "tests.api.stopping_server", "serve", "--no-worker")
SIZES = {"local": 3_000_000, "s3": 17_500_000}
CLIENTS = 3
UPLOADS = {"local": 150, "s3": 25}
"""Of each client. One to a folder takes less time."""
LONGEST_STOP_SECONDS = 6.0
"""Longer than PostgreSQL leaves an idle transaction alone."""
PATIENCE_SECONDS = 1.5
"""After so long a client gives its request up."""
UPLOAD_SECONDS = 300.0
RETRIED = (409, 423, 429, 503)


class Dialect(Protocol):
    """Builds and sends the requests of one protocol."""

    name: str

    def create(self, client: httpx.Client, data: bytes) -> httpx.Response:
        """Begin an upload of `data`, of which nothing is sent yet."""
        ...

    def ask(self, client: httpx.Client, location: str) -> httpx.Response: ...

    def append(self, client: httpx.Client, location: str, data: bytes, start: int, end: int) -> httpx.Response: ...


class TusDialect:
    name = "tus"

    def create(self, client: httpx.Client, data: bytes) -> httpx.Response:
        return create_tus(client, len(data))

    def ask(self, client: httpx.Client, location: str) -> httpx.Response:
        return client.head(location, headers=TUS)

    def append(self, client: httpx.Client, location: str, data: bytes, start: int, end: int) -> httpx.Response:
        return append_tus(client, location, start, data[start:end])


class IetfDialect:
    def __init__(self, version: int) -> None:
        self.name = f"the draft's version {version}"
        self._version = version

    def create(self, client: httpx.Client, data: bytes) -> httpx.Response:
        fields = ietf_creation_fields(data, version=self._version, is_complete=False)
        return client.post("/api/upload", headers=fields)

    def ask(self, client: httpx.Client, location: str) -> httpx.Response:
        return client.head(location, headers=completeness(self._version, is_complete=False))

    def append(self, client: httpx.Client, location: str, data: bytes, start: int, end: int) -> httpx.Response:
        is_last = end == len(data)
        return append_ietf(client, location, start, data[start:end], version=self._version, is_complete=is_last)


@dataclass
class RestlessClient:
    """Uploads files, each by one of `dialects`, and sends each request to either process."""

    services: list[Service]
    account: Account
    size: int
    dice: random.Random
    dialects: list[Dialect]
    statuses: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)

    def upload(self) -> tuple[str, bytes]:
        """Upload one file; returns the asset's id and the SHA-1."""
        dialect = self.dice.choice(self.dialects)
        data = some_bytes(self.size, self.dice.randrange(2**32))
        location, offset, acknowledged = "", None, 0
        deadline = time.monotonic() + UPLOAD_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError), self._any_client() as client:
                if not location:
                    answer = dialect.create(client, data)
                    if self._is_accepted(answer):
                        location = urlsplit(answer.headers["location"]).path
                    continue
                if offset is None:
                    answer = dialect.ask(client, location)
                else:
                    end = min(offset + self._choose_length(), len(data))
                    sent_at, offset = offset, None  # unknown until it is answered
                    answer = dialect.append(client, location, data, sent_at, end)
                if self._is_accepted(answer):
                    offset = int(answer.headers["upload-offset"])
                    assert offset >= acknowledged, f"{acknowledged} bytes were acknowledged, and then {offset}"
                    acknowledged = offset
                    if "mediavault-asset-id" in answer.headers:
                        self.completed[dialect.name] += 1
                        return answer.headers["mediavault-asset-id"], hashlib.sha1(data).digest()
        raise AssertionError(f"{location} ({dialect.name}) is not complete, after {acknowledged} of {len(data)} bytes")

    def _any_client(self) -> httpx.Client:
        return self.dice.choice(self.services).client(self.account, timeout=PATIENCE_SECONDS)

    def _choose_length(self) -> int:
        return self.dice.choice((self.dice.randrange(1, 1000), self.dice.randrange(1, self.size)))

    def _is_accepted(self, answer: httpx.Response) -> bool:
        self.statuses[f"{answer.request.method} {answer.status_code}"] += 1
        assert answer.is_success or answer.status_code in RETRIED, (
            answer.request.method,
            answer.status_code,
            answer.text,
        )
        return answer.is_success


@pytest.fixture
def services(stack: Engine, stacks: Stacks, tmp_path: Path) -> Iterator[list[Service]]:
    place = stacks.create(stack, tmp_path / "service", database="postgresql")
    with Service(place, program=PROGRAM) as first, Service(place, program=PROGRAM) as second:
        yield [first, second]


def disturb(services: list[Service], dice: random.Random, ended: threading.Event) -> Counter[str]:
    """Stop or kill one process after the other, until `ended`."""
    done: Counter[str] = Counter()
    while not ended.wait(dice.uniform(0, 1.5)):
        service = dice.choice(services)
        if dice.random() < 0.2:
            service.kill()
            service.start()
            done["killed"] += 1
            continue
        process = service.process
        process.suspend()
        try:
            ended.wait(dice.choice((dice.uniform(0, 0.2), dice.uniform(0, LONGEST_STOP_SECONDS))))
        finally:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        done["stopped"] += 1
    return done


@pytest.mark.soak
def test_uploads_survive_processes_that_are_stopped_at_random(
    services: list[Service], stack: Engine, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    accounts = [services[0].people.add() for _ in range(CLIENTS)]
    dialects = [TusDialect(), IetfDialect(NEWEST_VERSION), IetfDialect(dice.choice(OLDER_VERSIONS))]
    clients = [
        RestlessClient(services, account, SIZES[stack], random.Random(dice.random()), dialects) for account in accounts
    ]
    ended = threading.Event()
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        disturbing = threads.submit(disturb, services, random.Random(dice.random()), ended)
        try:
            uploads = [
                threads.submit(lambda each=each: [each.upload() for _ in range(UPLOADS[stack])]) for each in clients
            ]
            stored = [upload.result() for upload in uploads]
        finally:
            ended.set()
        done = disturbing.result(60)

    for account, assets in zip(accounts, stored, strict=True):
        with services[1].client(account) as client:
            assert client.get("/api/assets/statistics").json()["total"] == len(assets)
            for asset, sha1 in assets:
                assert hashlib.sha1(client.get(f"/api/assets/{asset}/original").content).digest() == sha1
    for service in services:
        service.stop()
    sweep_everything(services[0])
    assert_consistent(services[0].stack, exact=True)
    assert services[0].stack.leftovers() == []
    statuses = sum((each.statuses for each in clients), Counter[str]())
    completed = sum((each.completed for each in clients), Counter[str]())
    assert len(completed) == len(dialects)
    note(f"uploads on {stack} {dict(completed)}, processes {dict(done)}: {dict(statuses)} (seed {seed})")
