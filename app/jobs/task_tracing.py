"""The spans of tasks."""

from __future__ import annotations

from app.catalog.schema.records import Task
from app.jobs.task_executor import ProcessTask
from app.tracing import Tracing


def trace_tasks(tracing: Tracing, process: ProcessTask) -> ProcessTask:
    """`process`, within a span for each attempt."""

    async def process_traced(task: Task) -> None:
        attributes = {
            "mediavault.task.id": str(task.id),
            "mediavault.asset.id": str(task.asset_id),
            "mediavault.task.attempts": task.attempts,
        }
        with tracing.span(f"task {task.kind}", attributes):
            await process(task)

    return process_traced
