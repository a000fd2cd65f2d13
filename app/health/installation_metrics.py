"""`InstallationMetrics`: what only the database and the mounts can tell, read when it is asked for, at most once in a few seconds.

A database or a mount that does not answer never delays an answer by more than `WAIT_SECONDS`: the values of its group are then those of the
last reading, if that is not too old, and `mediavault_collector_success` says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import structlog

from app.catalog.catalog import Catalog
from app.catalog.database.outage import FailedWork
from app.catalog.schema.move_records import MoveState
from app.health.mount_states import ListMountStates, MountCondition, MountKind
from app.metrics import families
from app.metrics.families import MetricFamily

WAIT_SECONDS = 1.0
"""How long an answer waits for all groups together."""
REFRESH_SECONDS = 5.0
MOVE_REFRESH_SECONDS = 30.0
"""The files of a move are counted one by one."""
MOST_AGE_SECONDS = 60.0
"""Older values are left out."""

Gauges = Mapping[MetricFamily, Mapping[tuple[str, ...], float]]
ReadGroup = Callable[[], Awaitable[Gauges]]

_log = structlog.get_logger(__name__)


class MetricGroup:
    """Values that are read together."""

    def __init__(
        self,
        name: str,
        read: ReadGroup,
        refresh_seconds: float = REFRESH_SECONDS,
        *,
        is_outage: Callable[[Exception], bool] = lambda _: False,
    ) -> None:
        """`is_outage`: whether a failure is logged elsewhere, so that it is not logged here."""
        self.name = name
        self._is_outage = is_outage
        self._read = read
        self._refresh_seconds = refresh_seconds
        self._values: Gauges = {}
        self._read_at = float("-inf")
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    def refresh(self) -> asyncio.Task[None] | None:
        """The reading that is under way, or that the age of the values requires; None if they are young."""
        if self._task is not None and not self._task.done():
            return self._task
        if time.monotonic() - self._read_at < self._refresh_seconds:
            return None
        self._task = asyncio.create_task(self._refresh(), name=f"metrics of {self.name}")
        return self._task

    def get(self) -> tuple[Gauges, bool]:
        """The values, and whether they are current."""
        age = time.monotonic() - self._read_at
        is_current = not self._failed and age < self._refresh_seconds + WAIT_SECONDS
        return (self._values if age < MOST_AGE_SECONDS else {}), is_current

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _refresh(self) -> None:
        began = time.monotonic()
        try:
            self._values = await self._read()
        except Exception as error:  # noqa: BLE001 - the outermost edge of the task: whatever is away, metrics are answered
            if not self._is_outage(error) and not self._failed:
                _log.warning("metrics cannot be read", group=self.name, reason=str(error) or type(error).__name__)
            self._failed = True
        else:
            self._failed = False
            self._read_at = began


class InstallationMetrics:
    def __init__(self, groups: Sequence[MetricGroup]) -> None:
        self._groups = tuple(groups)

    async def read(self) -> Gauges:
        """All values that are known, after at most `WAIT_SECONDS`."""
        if readings := [task for group in self._groups if (task := group.refresh()) is not None]:
            await asyncio.wait(readings, timeout=WAIT_SECONDS)
        gauges: dict[MetricFamily, Mapping[tuple[str, ...], float]] = {}
        success: dict[tuple[str, ...], float] = {}
        for group in self._groups:
            values, is_current = group.get()
            gauges |= values
            success[group.name,] = float(is_current)
        return gauges | {families.COLLECTOR_SUCCESS: success}

    async def aclose(self) -> None:
        for group in self._groups:
            await group.aclose()


def create_catalog_groups(catalog: Catalog) -> list[MetricGroup]:
    """The groups that the database tells."""
    groups = CatalogGroups(catalog)
    is_outage = partial(catalog.outages.record_failure, work=FailedWork.CHECK)
    return [
        MetricGroup("tasks", groups.read_tasks, is_outage=is_outage),
        MetricGroup("sweeper", groups.read_sweeper, is_outage=is_outage),
        MetricGroup("verify", groups.read_verify, is_outage=is_outage),
        MetricGroup("move", groups.read_move, MOVE_REFRESH_SECONDS, is_outage=is_outage),
    ]


def create_mount_group(list_mount_states: ListMountStates) -> MetricGroup:
    """The number of mounts in each state."""

    async def read() -> Gauges:
        counts = Counter((mount.kind.value, mount.state.value) for mount in await list_mount_states())
        return {
            families.MOUNTS: {
                (kind.value, state.value): float(counts[kind.value, state.value])
                for kind in MountKind
                for state in MountCondition
            }
        }

    return MetricGroup("mounts", read)


class CatalogGroups:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def read_tasks(self) -> Gauges:
        queues = await self._catalog.metrics.read_queues()
        return {
            families.TASKS_QUEUED: {
                (kind.value, state): float(getattr(depth, state))
                for kind, depth in queues.items()
                for state in ("pending", "delayed", "running", "failed")
            },
            families.QUEUE_AGE: {(kind.value,): depth.overdue.total_seconds() for kind, depth in queues.items()},
        }

    async def read_sweeper(self) -> Gauges:
        backlog = await self._catalog.metrics.read_sweep_backlog()
        return {
            families.SWEEP_BACKLOG: {(): float(backlog.files)},
            families.SWEEP_AGE: {(): backlog.overdue.total_seconds()},
        }

    async def read_verify(self) -> Gauges:
        result = await self._catalog.verify_results.get_last()
        if result is None:
            return {}
        return {
            families.VERIFY_FINDINGS: {(problem,): float(count) for problem, count in result.problems.items()},
            families.VERIFY_UNREPAIRED: {(): float(result.unrepaired)},
            families.VERIFY_TIME: {(): result.ended_at.timestamp()},
        }

    async def read_move(self) -> Gauges:
        moves = self._catalog.moves
        migration = await moves.get_unfinished()
        if migration is None:
            return {}
        tallies = await moves.count_by_state(migration.id)
        files, size = Counter[str](), Counter[str]()
        for tally in tallies:
            files[tally.state.value] += tally.files
            size[tally.state.value] += tally.bytes
        return {
            families.MOVE_FILES: {(state.value,): float(files[state.value]) for state in MoveState},
            families.MOVE_BYTES: {(state.value,): float(size[state.value]) for state in MoveState},
            families.MOVE_PROBLEMS: {(): float(sum(tally.problems for tally in tallies))},
        }
