"""The runner in this process, for a catalogue in SQLite: takes the most urgent tasks, woken at once, a few of each kind at a time.

One process at a time runs tasks of a catalogue: it holds a lock on a file beside it. So what is `running` when the lock is taken was
left by a dead one; who comes second waits, and takes over.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.schema.records import Task, TaskKind
from app.jobs.task_executor import TaskExecutor

LOCK_SECONDS = 1.0
"""Between two looks whether the process that runs the tasks has ended."""
TASK_POLL_SECONDS = 5.0
"""Between two looks for tasks that another process (a command, a scan) has requested."""
LEAST_SECONDS = 0.05
FAILURE_PAUSE_SECONDS = 2.0
"""After a failure of the database."""

_log = structlog.get_logger(__name__)


class SqliteTaskRunner:
    def __init__(self, catalog: Catalog, catalogue_file: Path) -> None:
        self._catalog = catalog
        self._lock_file = catalogue_file.with_name(catalogue_file.name + ".jobs")
        self._woken = {kind: asyncio.Event() for kind in TaskKind}
        self.has_lock = asyncio.Event()
        """Set while it is this process that runs the tasks."""

    @asynccontextmanager
    async def running(self, executor: TaskExecutor) -> AsyncIterator[Self]:
        """Ends all attempts, and gives their tasks back, with the block."""
        work = asyncio.create_task(self._run(executor), name="runner of tasks")
        try:
            yield self
        finally:
            work.cancel()
            await asyncio.wait([work])

    def wake(self, asset_id: UUID | None = None) -> None:
        """There is something to do. Never waits."""
        for woken in self._woken.values():
            woken.set()

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """They were requested: look for them."""
        if tasks:
            self.wake()

    async def _run(self, executor: TaskExecutor) -> None:
        descriptor = await asyncio.to_thread(os.open, self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - it is another process that ends
                await asyncio.sleep(LOCK_SECONDS)
            self.has_lock.set()
            await self._recover_tasks()
            try:
                async with asyncio.TaskGroup() as group:
                    for kind in TaskKind:
                        group.create_task(self._run_kind(kind, executor))
            finally:
                await executor.stop()
        finally:
            os.close(descriptor)

    async def _recover_tasks(self) -> None:
        while True:
            with self._trouble_logged():
                recovered = await self._catalog.tasks.recover_lapsed()
                if recovered:
                    _log.warning("tasks of a process that died are taken back", count=len(recovered))
                return
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    async def _run_kind(self, kind: TaskKind, executor: TaskExecutor) -> None:
        woken = self._woken[kind]
        while True:
            woken.clear()
            pause = FAILURE_PAUSE_SECONDS
            with self._trouble_logged():
                while await executor.start_next(kind):
                    pass
                pause = await self._pause(kind)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()

    @contextmanager
    def _trouble_logged(self) -> Iterator[None]:
        """One failure must not end the runner."""
        try:
            yield
        except CatalogError as error:
            if not self._catalog.outages.covers(error):
                _log.warning("tasks are put off", reason=str(error))
        except Exception:  # noqa: BLE001 - the runner's outermost edge
            _log.exception("tasks are put off")

    async def _pause(self, kind: TaskKind) -> float:
        due = await self._catalog.tasks.get_next_due(kind)
        if due is None:
            return TASK_POLL_SECONDS
        return min(max((due - datetime.now(UTC)).total_seconds(), LEAST_SECONDS), TASK_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
