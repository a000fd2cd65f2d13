"""Guarantees of resumable writes whose writers are killed, or stopped and woken up later, at each of their effects."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from app.storage.backend import StorageBackend
from app.storage.local import resumable as local_resumable
from tests.real.spawning import SpawnedProcess, spawner
from tests.real.waiting import eventually_so
from tests.storage.conftest import Place
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern
from tests.storage.guarantees.resumable_row import UploadRow
from tests.storage.guarantees.resumable_writers import KEY, REFUSED, TAKEN_OVER

CHUNKS = (MEBIBYTE, 5 * MEBIBYTE, 100_001)
"""On S3 with parts of 5 MiB: a tail; a part and a tail; the last part."""
DATA = pattern(sum(CHUNKS))
LATER = pattern(sum(CHUNKS), seed=1)
"""What newcomers append, so that late bytes of an older writer are noticed."""

STOPS = {
    "local": ("write#2", "go_to#2", "_rename#1"),
    "s3": ("upload_part#1", "put#2", "complete#1"),
}
"""Where the older writer stops: while it writes, after it has confirmed that it is the newest, and while it commits."""

MOST_EFFECTS = 60


class Writers:
    """The program that forks writers. `orders` is a pipe, which is opened for reading, too, so that neither side waits for the other."""

    def __init__(self, process: SpawnedProcess, orders: int, output: Path) -> None:
        self._process = process
        self._orders = orders
        self._output = output
        self._seen = 0

    async def tell(self, line: str) -> str:
        """Send the order; returns the answer."""
        os.write(self._orders, f"{line}\n".encode())
        answers: list[str] = []

        async def has_answered() -> bool:
            assert self._process.poll() is None, "the writers' process has ended"
            lines = self._output.read_text().split("\n")[:-1]
            # Its log lines come between.
            answers[:] = [each for each in lines[self._seen :] if each.startswith(("died", "stopped", "ended"))]
            self._seen = len(lines) if answers else self._seen
            return bool(answers)

        await eventually_so(has_answered, f"an answer to {line!r}", within=30)
        (answer,) = answers
        return answer


@asynccontextmanager
async def start_writers(place: Place, folder: Path) -> AsyncIterator[Writers]:
    """Their row is the file `row` in `folder`."""
    pipe, output = folder / "orders", folder / "answers"
    os.mkfifo(pipe)
    orders = os.open(pipe, os.O_RDWR)
    program = ("tests.storage.guarantees.resumable_writers", str(pipe), str(folder / "row"), *map(str, CHUNKS))
    process = spawner().spawn(program, folder, os.environ | dict(place), output, output)
    try:
        yield Writers(process, orders, output)
    finally:
        process.kill()
        process.wait(10)
        os.close(orders)


async def go_on(backend: StorageBackend, row: UploadRow, data: bytes, end: int) -> int:
    """Upload what the row lacks up to `end`, as a newcomer after a writer of unknown fate. Returns the offset that it went on from."""
    writes = backend.resumable_writes
    save, state = row.take_over(), row.state
    if state is None:
        await writes.abort(KEY, None)
        state = await writes.begin(KEY, size=len(data), content_type=None)
        await save(state)
    if state.offset < end:
        async with writes.append(KEY, state, size=len(data), save=save, is_contested=True) as appender:
            await appender.write(data[state.offset : end])
            await appender.checkpoint()
    return state.offset


async def finish(backend: StorageBackend, row: UploadRow, data: bytes) -> int:
    """As `go_on`, up to the end, with the commit."""
    offset = await go_on(backend, row, data, len(data))
    state = row.state
    assert state is not None
    await backend.resumable_writes.commit(KEY, state, len(data), is_contested=True)
    return offset


async def assert_whole(backend: StorageBackend, data: bytes, *, leftovers: int = 0) -> None:
    """The object has its bytes, and at most so many things are left for the sweep."""
    assert await fetch(backend, KEY.value) == data
    assert await keys_of(backend) == [KEY.value]
    assert await backend.sweep_leftovers(timedelta(0)) <= leftovers
    await backend.delete_object(KEY)


def lost_uploads(backend: StorageBackend) -> int:
    """A multipart upload whose creator dies before it has saved the id is found only by the sweep, and by an abort."""
    return 1 if backend.name == "s3" else 0


class ResumableKillGuarantees:
    async def test_a_newcomer_goes_on_after_a_kill_at_each_effect(
        self, backend: StorageBackend, place: Place, tmp_path: Path
    ) -> None:
        row = UploadRow(tmp_path / "row")
        offsets: set[int] = set()
        answer = ""
        async with start_writers(place, tmp_path) as writers:
            for effect in range(1, MOST_EFFECTS):
                row.reset()
                answer = await writers.tell(f"kill {effect}")
                offset = await finish(backend, row, LATER)
                await assert_whole(backend, DATA[:offset] + LATER[offset:], leftovers=lost_uploads(backend))
                offsets.add(offset)
                if answer != "died":
                    break
        assert answer == "ended 0"
        assert offsets == {0, CHUNKS[0], CHUNKS[0] + CHUNKS[1], sum(CHUNKS)}

    async def test_an_abort_after_a_kill_at_each_effect_leaves_nothing(
        self, backend: StorageBackend, place: Place, tmp_path: Path, *, soak: bool
    ) -> None:
        row = UploadRow(tmp_path / "row")
        answer = ""
        async with start_writers(place, tmp_path) as writers:
            for effect in range(1, MOST_EFFECTS, 1 if soak else 3):
                row.reset()
                answer = await writers.tell(f"kill {effect}")
                state = row.state

                async def is_aborted() -> bool:
                    """A part that the killed writer had sent may arrive late."""
                    await backend.resumable_writes.abort(KEY, state)  # noqa: B023 - awaited in this round
                    return await backend.sweep_leftovers(timedelta(0)) == 0

                await eventually_so(is_aborted, "the abort has removed everything")
                assert await keys_of(backend) in ([], [KEY.value])
                await backend.delete_object(KEY)
                if answer != "died":
                    break
        assert answer == "ended 0"

    async def test_a_writer_that_was_stopped_at_each_effect_does_no_harm_when_it_wakes_up(
        self,
        backend: StorageBackend,
        place: Place,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        seed: int,
        *,
        soak: bool,
    ) -> None:
        """The older writer wakes up between two appends of newcomers."""
        step = 1 if soak else 2
        monkeypatch.setattr(local_resumable, "LOCK_SECONDS", 0.1)
        row = UploadRow(tmp_path / "row")
        ends: set[str] = set()
        answer = ""
        async with start_writers(place, tmp_path) as writers:
            for effect in range(1 + seed % step, MOST_EFFECTS, step):
                row.reset()
                answer = await writers.tell(f"stop {effect}")
                offset = await go_on(backend, row, LATER, len(LATER) - 1000)
                if answer == "stopped":
                    ends.add(await writers.tell("wake"))
                await finish(backend, row, LATER)
                await assert_whole(backend, DATA[:offset] + LATER[offset:], leftovers=1)
                if answer != "stopped":
                    break
        assert answer == "ended 0"
        assert f"ended {TAKEN_OVER}" in ends
        assert ends <= {"ended 0", f"ended {TAKEN_OVER}", f"ended {REFUSED}"}

    async def test_a_newcomer_is_killed_at_each_effect_while_the_older_writer_is_stopped(
        self,
        backend: StorageBackend,
        place: Place,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        seed: int,
        *,
        soak: bool,
    ) -> None:
        """A third writer finishes; the first one wakes up then."""
        monkeypatch.setattr(local_resumable, "LOCK_SECONDS", 0.1)
        row = UploadRow(tmp_path / "row")
        is_local = backend.name == "local"
        step = 1 if soak else 3 if is_local else 6
        async with start_writers(place, tmp_path) as writers:
            for stopped_at in STOPS[backend.name] if soak or is_local else STOPS[backend.name][:1]:
                answer = ""
                for effect in range(1 + seed % step, MOST_EFFECTS, step):
                    row.reset()
                    assert await writers.tell(f"stop {stopped_at}") == "stopped"
                    answer = await writers.tell(f"kill {effect}")
                    offset = await finish(backend, row, LATER)
                    assert await writers.tell("wake") != "ended 1"
                    await assert_whole(backend, DATA[:offset] + LATER[offset:], leftovers=1)
                    if answer != "died":
                        break
                assert answer == "ended 0"
