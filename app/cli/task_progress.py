"""Progress of `mediavault process` on standard output: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

LINE_SECONDS = 10.0

ShowCount = Callable[[int, int | None], None]


@contextmanager
def show_task_progress(what: str) -> Iterator[ShowCount]:
    """Yields a function to call with the number done and the total; None if the total is unknown."""
    if sys.stdout.isatty():
        yield from _show_bar(what)
    else:
        yield from _show_lines(what)


def _show_bar(what: str) -> Iterator[ShowCount]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _show_lines(what: str) -> Iterator[ShowCount]:
    due = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal due
        if time.monotonic() >= due or done == total:
            due = time.monotonic() + LINE_SECONDS
            typer.echo(f"{what} {done}" + ("" if total is None else f" of {total}"))

    yield show
