"""A serving process is stopped in the middle of a transaction, in which it holds the lock of an upload's row (on SQLite that of the whole
catalogue). Another process that is asked to go on answers soon, and goes on as soon as it can."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.api.consistency import assert_consistent
from tests.api.uploads.upload_clients import TUS, append_tus, begun_tus, finish_tus, tus_offset
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import Database, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes
from tests.real.waiting import eventually

SIZE, SENT = 300_000, 200_000
ANSWER_SECONDS = 10.0
PROGRAM = ("-m", "tests.api.stopping_server", "serve", "--no-worker")


@dataclass(frozen=True)
class StoppedAppend:
    """`answer`: of the request that the stopped process is carrying out."""

    process: psutil.Process
    answer: Future[httpx.Response]
    other: Service
    account: Account
    location: str
    data: bytes


@contextmanager
def stop_an_append(stacks: Stacks, database: Database, folder: Path) -> Iterator[StoppedAppend]:
    stack = stacks.create("local", folder / "service", database=database)
    data = fresh_bytes(SIZE)
    with (
        Service(stack, program=PROGRAM, settings={"MEDIAVAULT_TEST_STOPS": "1"}) as first,
        Service(stack, program=PROGRAM) as second,
        ThreadPoolExecutor(1) as threads,
    ):
        account = first.people.add()
        with first.client(account) as client:
            location = urlsplit(begun_tus(client, SIZE)).path
            answer = threads.submit(append_tus, client, location, 0, data[:SENT])
            process = first.process
            eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the first process has stopped")
            try:
                yield StoppedAppend(process, answer, second, account, location, data)
            finally:
                process.resume()
        sweep_everything(second)
    assert_consistent(stack, exact=True)
    assert stack.leftovers() == []


def assert_refused_soon(client: httpx.Client, location: str, data: bytes) -> None:
    for answer, status in (
        (append_tus(client, location, 0, data), 503),
        (client.head(location, headers=TUS), 423),  # tus-js-client begins a new upload after any other
    ):
        assert answer.status_code == status
        assert answer.elapsed.total_seconds() < ANSWER_SECONDS
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_process_that_wakes_up_in_its_transaction_keeps_what_it_received(
    stacks: Stacks, tmp_path: Path, database: Database
) -> None:
    with stop_an_append(stacks, database, tmp_path) as stopped, stopped.other.client(stopped.account) as client:
        assert_refused_soon(client, stopped.location, stopped.data)

        stopped.process.resume()

        assert stopped.answer.result(ANSWER_SECONDS).status_code == 204
        assert tus_offset(client, stopped.location) == SENT
        asset = finish_tus(client, stopped.location, stopped.data)
        assert client.get(f"/api/assets/{asset}/original").content == stopped.data


def test_postgresql_ends_the_transaction_of_a_process_that_does_not_wake_up(stacks: Stacks, tmp_path: Path) -> None:
    with stop_an_append(stacks, "postgresql", tmp_path) as stopped, stopped.other.client(stopped.account) as client:
        assert_refused_soon(client, stopped.location, stopped.data)

        eventually(lambda: client.head(stopped.location, headers=TUS).status_code == 200, "the other process goes on")
        asset = finish_tus(client, stopped.location, stopped.data)
        stopped.process.resume()

        late = stopped.answer.result(ANSWER_SECONDS)
        assert late.status_code in (423, 503)
        assert "upload-offset" not in late.headers
        assert client.get(f"/api/assets/{asset}/original").content == stopped.data
