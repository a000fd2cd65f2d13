"""Delivers tasks over PostgreSQL: procrastinate carries task ids to workers, in any number of processes on any number
of hosts.

It only delivers. The `task` rows define what is due and record how it ended, so a lost, late or duplicate delivery does
no harm. This is the only module that imports procrastinate, and it is imported only when the catalogue is in
PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ProcrastinateException, UniqueViolation
from procrastinate.jobs import Job, Status

from app.catalog.catalog import Catalog
from app.catalog.database.locations import PostgresLocation
from app.catalog.database.postgres_engine import build_postgres_arguments
from app.catalog.errors import CatalogError, CatalogUnavailable
from app.catalog.schema.records import Task, TaskKind
from app.catalog.task_queues import PAUSED_FLAG
from app.jobs.connection_failures import connection_failed
from app.jobs.delivery_schema import ensure_delivery_schema
from app.jobs.task_executor import ExecutorStopping, TaskExecutor

HEARTBEAT_SECONDS = 10.0
STALLED_SECONDS = 40.0
"""A worker without a heartbeat for so long counts as dead."""
POLL_SECONDS = 5.0
"""Interval of polling for jobs that become due by the clock; jobs that are due at once are notified."""
RECONCILE_SECONDS = 30.0
STALLED_CRON = "* * * * *"
RESTART_SECONDS = 2.0
"""Pause after a failure of the database."""
STOP_SECONDS = 10.0
RECANCEL_SECONDS = 6.0
"""After these, a worker that was cancelled is cancelled once more; its jobs have had `STOP_SECONDS / 2`."""
CONNECTIONS = 4
MAX_QUEUED_ASSETS = 10_000
"""Assets in memory that wait for delivery; tasks of further ones are found by `reconcile`."""
BATCH = 200

_ATTEMPT = "mediavault.attempt"
_MAINTENANCE_QUEUE = "upkeep"
_FAILURES = (ProcrastinateException, psycopg.Error, OSError, CatalogError)
_UNDELIVERED = """
    SELECT id FROM task
    WHERE kind = ANY(%(kinds)s::varchar[]) AND state = 'pending' AND not_before <= %(before)s
    AND NOT EXISTS (SELECT 1 FROM installation WHERE name = %(paused)s || task.kind)
    AND NOT EXISTS (
        SELECT 1 FROM procrastinate_jobs AS job
        WHERE job.queueing_lock = task.id::text AND job.status = 'todo'
        AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
    )
    ORDER BY priority, not_before LIMIT %(limit)s
"""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_broker(catalog: Catalog) -> AsyncIterator[TaskBroker]:
    """Open a broker and deliver what `wake` is called for, until the block ends. Raises `CatalogError` when the
    database is unavailable."""
    location = catalog.database.location
    if not isinstance(location, PostgresLocation):
        raise TypeError("deliveries need PostgreSQL")
    await ensure_delivery_schema(catalog.database)
    connector = PsycopgConnector(kwargs=build_postgres_arguments(location.url), min_size=1, max_size=CONNECTIONS)
    async with AsyncExitStack() as stack:
        app = App(connector=connector)
        try:
            await stack.enter_async_context(app.open_async())
        except _FAILURES as error:
            raise CatalogUnavailable(f"no connection for jobs: {error}") from error
        broker = TaskBroker(catalog, app)
        delivery = asyncio.create_task(broker.deliver_queued(), name="deliverer")
        try:
            yield broker
        finally:
            delivery.cancel()
            await asyncio.wait([delivery])


class TaskBroker:
    """Delivers due tasks as jobs of procrastinate, and runs workers on them."""

    def __init__(self, catalog: Catalog, app: App) -> None:
        self._catalog = catalog
        self._app = app
        self._queued_assets: asyncio.Queue[UUID] = asyncio.Queue(MAX_QUEUED_ASSETS)
        self._is_stopping = False
        """Ends workers whose cancellation a library has lost."""

    def wake(self, asset_id: UUID) -> None:
        """Deliver the asset's task soon. Never waits."""
        with suppress(asyncio.QueueFull):
            self._queued_assets.put_nowait(asset_id)

    async def deliver(self, task: Task, at: datetime | None = None) -> None:
        """Deliver a task, at `at` if that is in the future, else at once. Idempotent: a task that is delivered already
        is not delivered twice. Errors are logged only, as `reconcile` repeats lost deliveries."""
        due = at if at is not None and at > datetime.now(UTC) else None
        try:
            await self._defer(_build_job(task, due))
        except _FAILURES as error:
            if not await self._is_outage_logged(error):
                _log.warning("a task could not be delivered yet", task=str(task.id), reason=str(error))

    async def deliver_all(self, tasks: Sequence[Task]) -> None:
        """Deliver many tasks that are due now. Errors are logged only."""
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            try:
                await self._app.job_manager.batch_defer_jobs_async([_build_job(task) for task in batch])
            except AlreadyEnqueued:  # one task was enqueued already, so none of the batch was enqueued
                for task in batch:
                    await self.deliver(task)
            except _FAILURES as error:
                if not await self._is_outage_logged(error):
                    _log.warning("tasks could not be delivered yet", count=len(batch), reason=str(error))

    async def deliver_queued(self) -> None:
        """Deliver the tasks of assets passed to `wake`, until cancelled."""
        while True:
            assets = [await self._queued_assets.get()]
            while len(assets) < BATCH and not self._queued_assets.empty():
                assets.append(self._queued_assets.get_nowait())
            try:
                await self.deliver_all(await self._catalog.tasks.get_for_assets(assets))
            except CatalogError as error:
                if not await self._is_outage_logged(error):
                    _log.warning("tasks could not be delivered yet", count=len(assets), reason=str(error))

    @asynccontextmanager
    async def run_workers(self, executor: TaskExecutor, slots: Mapping[TaskKind, int]) -> AsyncIterator[None]:
        """Run workers until the block ends. Then all attempts are stopped, and their tasks are delivered to other
        workers."""
        self._is_stopping = False
        self._define_jobs(executor)
        # The workers on photos also run the maintenance jobs, which are short.
        queues = {kind: [kind.value, *([_MAINTENANCE_QUEUE] if kind is TaskKind.IMAGE else [])] for kind in slots}
        workers = [
            asyncio.create_task(self._run_worker(queues[kind], number), name=f"worker on {kind.value} tasks")
            for kind, number in slots.items()
        ]
        workers.append(asyncio.create_task(self._reconcile_periodically(), name="reconciler"))
        try:
            yield
        finally:
            self._is_stopping = True
            for worker in workers:
                worker.cancel()
            await executor.stop()
            await _wait_for_end(workers)

    async def reconcile(self) -> None:
        """Take back the tasks of dead workers, and deliver due tasks that have no waiting job. Raises the database's
        errors."""
        now = datetime.now(UTC)
        recovered = await self._catalog.tasks.recover_lapsed(now)
        if recovered:
            _log.warning("tasks of workers that died are taken back", count=len(recovered))
        rows = await self._app.connector.execute_query_all_async(
            _UNDELIVERED, kinds=[kind.value for kind in TaskKind], before=now, paused=PAUSED_FLAG, limit=10 * BATCH
        )
        undelivered = await self._catalog.tasks.get_many([row["id"] for row in rows])
        await self.deliver_all(undelivered)

    async def retry_stalled(self) -> None:
        """Retry the jobs that dead workers had taken. Raises the database's errors."""
        await self._catalog.tasks.recover_lapsed(datetime.now(UTC))
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
            try:
                await manager.retry_job(job)
            except (AlreadyEnqueued, UniqueViolation):  # the task was delivered again meanwhile
                await manager.finish_job(job, Status.ABORTED, delete_job=True)

    def _define_jobs(self, executor: TaskExecutor) -> None:
        @self._app.task(name=_ATTEMPT)
        async def attempt(task_id: str, kind: str) -> None:
            try:
                await executor.run_task(UUID(task_id), TaskKind(kind))
            except ExecutorStopping:
                for task in await self._catalog.tasks.get_many([UUID(task_id)]):
                    await self.deliver(task)
            except CatalogError as error:
                if not await self._is_outage_logged(error):
                    _log.warning(
                        "a delivered task could not be started and will be delivered again",
                        task=task_id,
                        reason=str(error),
                    )

        @self._app.periodic(cron=STALLED_CRON, queueing_lock=_MAINTENANCE_QUEUE)
        @self._app.task(name="mediavault.retry_stalled", queue=_MAINTENANCE_QUEUE)
        async def retry_stalled(timestamp: int) -> None:
            try:
                await self.retry_stalled()
            except _FAILURES as error:
                if not await self._is_outage_logged(error):
                    _log.warning("deliveries to dead workers could not be retried yet", reason=str(error))

        _ = attempt, retry_stalled

    async def _run_worker(self, queues: list[str], concurrency: int) -> None:
        """Run a worker, and start another one when it ends, as it does when it loses the database. Attempts continue
        meanwhile."""
        while not self._is_stopping:
            try:
                await self._app.run_worker_async(
                    queues=queues,
                    concurrency=concurrency,
                    fetch_job_polling_interval=POLL_SECONDS,
                    update_heartbeat_interval=HEARTBEAT_SECONDS,
                    stalled_worker_timeout=STALLED_SECONDS,
                    shutdown_graceful_timeout=STOP_SECONDS / 2,
                    delete_jobs="always",
                    install_signal_handlers=False,
                )
            except _FAILURES as error:
                if not await self._is_outage_logged(error):
                    _log.warning("a worker lost its connection to the database", queues=queues, reason=str(error))
            except Exception:  # noqa: BLE001 - the worker's outermost edge
                _log.exception("a worker failed", queues=queues)
            await asyncio.sleep(RESTART_SECONDS)

    async def _reconcile_periodically(self) -> None:
        while not self._is_stopping:
            try:
                await self.reconcile()
            except _FAILURES as error:
                if not await self._is_outage_logged(error):
                    _log.warning("due tasks could not be compared with deliveries yet", reason=str(error))
            except Exception:  # noqa: BLE001 - the reconciler's outermost edge
                _log.exception("due tasks could not be compared with deliveries yet")
            await asyncio.sleep(RECONCILE_SECONDS)

    async def _is_outage_logged(self, error: Exception) -> bool:
        """As `OutageLog.record_failure`. After an error of a delivery connection, the catalogue's own connections are tested:
        only that one may have failed."""
        outages = self._catalog.outages
        if not connection_failed(error):
            return outages.record_failure(error)
        if outages.record_failure(CatalogUnavailable(str(error))):
            return True
        try:
            await self._catalog.ping()
        except CatalogError as failure:
            return outages.record_failure(failure)
        return False

    async def _defer(self, job: Job) -> None:
        manager = self._app.job_manager
        try:
            await manager.defer_job_async(job)
        except AlreadyEnqueued:
            if job.scheduled_at is not None:
                return
            for waiting in await self._find_scheduled_jobs(job):
                await manager.cancel_job_by_id_async(waiting, delete_job=True)
                with suppress(AlreadyEnqueued):
                    await manager.defer_job_async(job)

    async def _find_scheduled_jobs(self, job: Job) -> list[int]:
        """The waiting job of the same task, if its scheduled time is in the future: it prevents that the job is
        enqueued now."""
        queued = await self._app.job_manager.list_jobs_async(queueing_lock=job.queueing_lock, status="todo")
        now = datetime.now(UTC)
        return [each.id for each in queued if each.id and each.scheduled_at is not None and each.scheduled_at > now]


async def _wait_for_end(workers: Sequence[asyncio.Task[None]]) -> None:
    """A worker that has not ended when its jobs must have is cancelled once more: procrastinate or psycopg may lose a cancellation that comes
    while the worker starts, and it would then work on."""
    _, unfinished = await asyncio.wait(workers, timeout=RECANCEL_SECONDS)
    if not unfinished:
        return
    for worker in unfinished:
        worker.cancel()
    _, unfinished = await asyncio.wait(unfinished, timeout=STOP_SECONDS - RECANCEL_SECONDS)
    for worker in unfinished:
        _log.warning("a worker does not stop", worker=worker.get_name())


def _build_job(task: Task, at: datetime | None = None) -> Job:
    arguments: dict[str, Any] = {"task_id": str(task.id), "kind": task.kind.value}
    return Job(
        id=None,
        queue=task.kind.value,
        priority=-task.priority,
        lock=None,
        queueing_lock=str(task.id),
        task_name=_ATTEMPT,
        task_kwargs=arguments,
        scheduled_at=at,
    )
