"""Runs attempts at tasks: claims a task, renews its lease while the work runs, and records the outcome in the `task`
row.

It does not choose how tasks arrive; see `sqlite_runner` and `postgres_broker`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.schema.records import Task, TaskKind
from app.jobs.retries import TaskDone, TaskFailed, TaskOutcome, TaskReleased, decide_outcome
from app.media.errors import MediaError
from app.storage.errors import StorageError

LEASE = timedelta(seconds=45)
"""How long a task belongs to its run after the last renewal of the lease."""
RENEW_SECONDS = 15.0
RECORD_RETRY_PAUSES = (0.2, 1.0, 5.0)
"""Pauses in seconds between attempts to record an outcome; the last one repeats."""
STOP_SECONDS = 10.0
"""How long a stop waits for child processes to end and tasks to be given back."""

ProcessTask = Callable[[Task], Awaitable[None]]
OnRetryScheduled = Callable[[Task, datetime], Awaitable[None]]
ClaimTask = Callable[[UUID], Awaitable[Task | None]]
OnAttemptEnded = Callable[[Task, TaskOutcome, float], None]
"""Called with the task, the outcome, and the seconds that the attempt took."""

_log = structlog.get_logger(__name__)


class ExecutorStopping(Exception):
    """This process is stopping and takes no more tasks; another one should."""


class TaskExecutor:
    """Runs at most as many tasks of each kind at once as there are slots."""

    def __init__(
        self,
        catalog: Catalog,
        process_task: ProcessTask,
        slots: Mapping[TaskKind, int],
        on_retry_scheduled: OnRetryScheduled | None = None,
        on_attempt_ended: OnAttemptEnded | None = None,
    ) -> None:
        """`process_task` does a task's work. `on_retry_scheduled` is called with each task that is to be tried again,
        and the time."""
        self._catalog = catalog
        self._process_task = process_task
        self._on_retry_scheduled = on_retry_scheduled
        self._on_attempt_ended = on_attempt_ended
        self._slots = {kind: asyncio.Semaphore(number) for kind, number in slots.items()}
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run_task(self, task_id: UUID, kind: TaskKind) -> None:
        """Run an attempt at this task to its end, if the task is due and not claimed. If the caller is cancelled, the
        attempt continues; `stop` ends it. Raises `ExecutorStopping`, or `CatalogError` when the task cannot be claimed.
        """
        attempt = await self._start(kind, lambda run_id: self._catalog.tasks.claim(task_id, run_id, LEASE))
        if self._stopping and attempt is None:
            raise ExecutorStopping
        if attempt is not None:
            await asyncio.shield(attempt)

    async def start_next(self, kind: TaskKind) -> bool:
        """Begin an attempt at the most urgent task, once a slot is free. Returns False when there is none. Raises
        `CatalogError`."""
        attempt = await self._start(kind, lambda run_id: self._catalog.tasks.claim_next(kind, run_id, LEASE))
        return attempt is not None

    async def stop(self) -> None:
        """Stop all attempts and give their tasks back. Waits at most `STOP_SECONDS`: the leases of tasks that are not
        given back by then expire."""
        self._stopping = True
        for attempt in self._running:
            attempt.cancel()
        if self._running:
            _, unfinished = await asyncio.wait(self._running, timeout=STOP_SECONDS)
            for attempt in unfinished:
                _log.warning("an attempt at a task does not stop", attempt=attempt.get_name())

    async def _start(self, kind: TaskKind, claim: ClaimTask) -> asyncio.Task[None] | None:
        slot = self._slots[kind]
        await slot.acquire()
        task: Task | None = None
        try:
            task = await self._claim(claim)
        finally:
            if task is None:
                slot.release()
        if task is None:
            return None
        attempt = asyncio.create_task(self._run_attempt(task), name=f"task {task.id}")
        self._running.add(attempt)

        def ended(_: object) -> None:
            self._running.discard(attempt)
            slot.release()

        attempt.add_done_callback(ended)
        return attempt

    async def _claim(self, claim: ClaimTask) -> Task | None:
        """Claim a task. If the caller is cancelled meanwhile, the claimed task is given back."""
        if self._stopping:
            return None
        claiming = asyncio.ensure_future(claim(uuid4()))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.wait([claiming])
            if claiming.exception() is None and (task := claiming.result()) is not None:
                await self._record_outcome(task, TaskReleased(datetime.now(UTC)))
            raise

    async def _run_attempt(self, task: Task) -> None:
        """Run an attempt and record its outcome. Raises nothing but cancellation."""
        began = time.monotonic()
        try:
            await self._run_under_lease(task)
        except asyncio.CancelledError:
            if self._stopping:
                await self._end_attempt(task, TaskReleased(datetime.now(UTC)), began)
                raise
            _log.warning(
                "an attempt was stopped: its task belongs to another run or is gone",
                task=str(task.id),
                asset=str(task.asset_id),
            )
        except (MediaError, StorageError, CatalogError) as error:
            if not self._catalog.outages.record_failure(error):
                _log.warning("an attempt failed", task=str(task.id), asset=str(task.asset_id), reason=str(error))
            await self._end_attempt(task, decide_outcome(task, error, datetime.now(UTC)), began)
        except Exception as error:  # noqa: BLE001 - the attempt's outermost edge: every error is recorded in the task
            _log.exception("an attempt failed", task=str(task.id), asset=str(task.asset_id))
            await self._end_attempt(task, decide_outcome(task, error, datetime.now(UTC)), began)
        else:
            await self._end_attempt(task, TaskDone(), began)

    async def _end_attempt(self, task: Task, outcome: TaskOutcome, began: float) -> None:
        if self._on_attempt_ended is not None:
            self._on_attempt_ended(task, outcome, time.monotonic() - began)
        await self._record_outcome(task, outcome)

    async def _run_under_lease(self, task: Task) -> None:
        """Do the work while renewing the lease; cancel the work when the task belongs to another run."""
        work = asyncio.ensure_future(self._process_task(task))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=RENEW_SECONDS)
                if not work.done() and not await self._renew_lease(task):
                    break
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
        work.result()

    async def _renew_lease(self, task: Task) -> bool:
        try:
            return await self._catalog.tasks.renew_lease(task.id, _require_run_id(task), LEASE)
        except CatalogError as error:
            if not self._catalog.outages.record_failure(error):
                _log.warning("the lease of a task could not be renewed yet", task=str(task.id), reason=str(error))
            return True

    async def _record_outcome(self, task: Task, outcome: TaskOutcome) -> None:
        """Record the outcome, and retry for as long as the database is unavailable; only a stop gives up."""
        pauses = iter(RECORD_RETRY_PAUSES)
        while True:
            try:
                is_recorded = await self._write_outcome(task, outcome)
            except CatalogError as error:
                if not self._catalog.outages.record_failure(error):
                    _log.warning(
                        "the outcome of an attempt could not be recorded yet", task=str(task.id), reason=str(error)
                    )
                if self._stopping:
                    return
                await asyncio.sleep(next(pauses, RECORD_RETRY_PAUSES[-1]))
            else:
                if is_recorded and not isinstance(outcome, TaskDone) and outcome.retry_at and self._on_retry_scheduled:
                    await self._on_retry_scheduled(task, outcome.retry_at)
                return

    async def _write_outcome(self, task: Task, outcome: TaskOutcome) -> bool:
        tasks, run_id = self._catalog.tasks, _require_run_id(task)
        match outcome:
            case TaskDone():
                return await tasks.finish(task.id, run_id)
            case TaskReleased(retry_at, reason):
                return await tasks.release(task.id, run_id, reason=reason, retry_at=retry_at)
            case TaskFailed(reason, retry_at):
                return await tasks.fail(task.id, run_id, reason, retry_at)


def _require_run_id(task: Task) -> UUID:
    if task.run_id is None:
        raise ValueError("the task has no run id")
    return task.run_id
