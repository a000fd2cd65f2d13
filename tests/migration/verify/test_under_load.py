"""The consistency check reports nothing while a service handles uploads, aborted uploads, deletes and sweeps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.jobs.sweeper import sweep
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.migration.consistency.findings import ConsistencyFinding
from app.storage.service import StorageService
from tests.api.consistency import assert_consistent
from tests.migration.verify.damaged_library import IgnoredProgress
from tests.real.notes import Note
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import UploadConnection, fresh_bytes, upload

SECONDS, SOAK_SECONDS = 3.0, 300.0
WRITERS = 3


@pytest.fixture
def service(stack: Engine, stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    with Service(stacks.create(stack, tmp_path / "service")) as running:
        yield running


class Load:
    """Clients that work until they are stopped."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._account = service.people.add()
        self.uploaded = self.deleted = self.broken = 0
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        mine: list[str] = []
        with self._service.client(self._account) as client:
            while not self._stop.is_set():
                with suppress(httpx.TransportError):
                    answer = upload(client, fresh_bytes(dice.randrange(200_000)))
                    assert answer.status_code == 201, answer.text
                    mine.append(answer.json()["id"])
                    self.uploaded += 1
                if dice.random() < 0.4 and mine:
                    gone = [mine.pop(dice.randrange(len(mine)))]
                    client.request("DELETE", "/api/assets", json={"ids": gone, "force": True}).raise_for_status()
                    self.deleted += 1
                if dice.random() < 0.2:
                    with UploadConnection(self._service.port) as wire:
                        wire.begin_upload(100_000, self._account.headers)
                        wire.send(fresh_bytes(50_000))
                        wire.vanish()
                    self.broken += 1


async def look(catalog: Catalog, storage: StorageService) -> list[ConsistencyFinding]:
    found: list[ConsistencyFinding] = []
    checksums = random.random() < 0.5
    verification = ConsistencyCheck(
        catalog, storage, on_finding=found.append, progress=IgnoredProgress(), checksums=checksums
    )
    await verification.run()
    return found


async def sweep_all(catalog: Catalog, storage: StorageService) -> None:
    await sweep(catalog, storage, now=datetime.now(UTC) + timedelta(seconds=1))


def test_it_is_never_wrong_about_what_others_are_at(service: Service, stack: Engine, soak: bool, note: Note) -> None:
    looks = 0
    with Load(service) as load:
        end = time.monotonic() + (SOAK_SECONDS if soak else SECONDS)
        while time.monotonic() < end or not looks:
            assert service.people.call_with_storage(look) == []
            service.people.call_with_storage(sweep_all)
            looks += 1
    note(
        f"verified {looks} times beside {load.uploaded} uploads, {load.deleted} deletions, {load.broken} broken off ({stack})"
    )
    assert load.uploaded
    assert load.deleted
    assert service.people.call_with_storage(look) == []
    assert_consistent(service.stack)
