"""Runs work that a cancelled request may not interrupt at any place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger(__name__)


async def run_shielded(
    work: Coroutine[Any, Any, T],
    on_cancelled: Callable[[asyncio.Task[T]], None],
    is_logged: Callable[[BaseException], bool],
) -> T:
    """Run the work in a task of its own. When the caller is cancelled, `on_cancelled` is called with the task; the cancellation is raised
    when the task has ended. Its error is logged then, unless `is_logged`."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        on_cancelled(task)
        error = await _failure_of(task)
        if error is not None and not is_logged(error):
            _log.warning("upload failed after its request was cancelled", exc_info=error)
        raise


async def _failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Wait for the task's end, and return its error."""
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # the caller re-raises the cancellation when the task has ended
    return None if task.cancelled() else task.exception()
