"""Runs the tasks of a SQLite catalogue in this process: the most urgent first, a limited number of each kind at once.

Only one process at a time runs the tasks of a catalogue: it holds `flock` on a file beside the catalogue. Therefore
tasks that are `running` when the lock is acquired were left by a dead process. A second process waits for the lock and
then takes over.
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

LOCK_POLL_SECONDS = 1.0
"""Interval of attempts to acquire the lock of the process that runs the tasks."""
TASK_POLL_SECONDS = 5.0
"""Interval of polling for tasks that another process (a command, a scan) requested."""
MIN_PAUSE_SECONDS = 0.05
FAILURE_PAUSE_SECONDS = 2.0
"""Pause after a failure of the database."""

_log = structlog.get_logger(__name__)


class SqliteTaskRunner:
    def __init__(self, catalog: Catalog, catalogue_file: Path) -> None:
        self._catalog = catalog
        self._lock_file = catalogue_file.with_name(catalogue_file.name + ".jobs")
        self._woken = {kind: asyncio.Event() for kind in TaskKind}
        self.has_lock = asyncio.Event()
        """Set while this process holds the lock and runs the tasks."""

    @asynccontextmanager
    async def running(self, executor: TaskExecutor) -> AsyncIterator[Self]:
        """Run tasks until the block ends. Then all attempts are stopped and their tasks given back."""
        work = asyncio.create_task(self._run(executor), name="runner of tasks")
        try:
            yield self
        finally:
            work.cancel()
            await asyncio.wait([work])

    def wake(self, asset_id: UUID | None = None) -> None:
        """Look for due tasks now. Never waits."""
        for woken in self._woken.values():
            woken.set()

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """Look for due tasks now, if any were requested."""
        if tasks:
            self.wake()

    async def _run(self, executor: TaskExecutor) -> None:
        descriptor = await asyncio.to_thread(os.open, self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - another process holds the lock
                await asyncio.sleep(LOCK_POLL_SECONDS)
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
            with self._log_failures():
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
            with self._log_failures():
                while await executor.start_next(kind):
                    pass
                pause = await self._seconds_until_due(kind)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()

    @contextmanager
    def _log_failures(self) -> Iterator[None]:
        """Log errors: one failure must not end the runner."""
        try:
            yield
        except CatalogError as error:
            if not self._catalog.outages.record_failure(error):
                _log.warning("tasks could not be run and are tried again", reason=str(error))
        except Exception:  # noqa: BLE001 - the runner's outermost edge
            _log.exception("tasks could not be run and are tried again")

    async def _seconds_until_due(self, kind: TaskKind) -> float:
        due = await self._catalog.tasks.get_next_due(kind)
        if due is None:
            return TASK_POLL_SECONDS
        return min(max((due - datetime.now(UTC)).total_seconds(), MIN_PAUSE_SECONDS), TASK_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
