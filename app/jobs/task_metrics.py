"""`TaskMetrics`: records attempts at tasks by kind and outcome."""

from __future__ import annotations

from app.catalog.schema.records import Task
from app.jobs.retries import TaskDone, TaskFailed, TaskOutcome
from app.metrics.families import TASK_DURATION
from app.metrics.instruments import ProcessMetrics


class TaskMetrics:
    def __init__(self, metrics: ProcessMetrics) -> None:
        self._durations = metrics.histogram(TASK_DURATION)

    def record_attempt(self, task: Task, outcome: TaskOutcome, seconds: float) -> None:
        self._durations.observe(seconds, task.kind.value, describe_outcome(outcome))


def describe_outcome(outcome: TaskOutcome) -> str:
    match outcome:
        case TaskDone():
            return "done"
        case TaskFailed(retry_at=None):
            return "failed"
        case TaskFailed():
            return "retry"
        case _:
            return "released"
