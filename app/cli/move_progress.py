"""Progress of `mediavault migrate` on standard error: bars on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from app.migration.step_progress import MoveProgress, SilentProgress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_SECONDS = 5.0
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_size(size: float) -> str:
    """A number of bytes in its largest fitting binary unit."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def format_duration(seconds: float) -> str:
    """Seconds as `h:mm:ss`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@contextmanager
def show_move_progress(*, quiet: bool) -> Iterator[MoveProgress]:
    """Shows progress until the block ends; nothing if `quiet`."""
    if quiet:
        yield SilentProgress()
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = MoveProgressLines()
        yield lines
        lines.finish()
        return
    from rich import progress  # noqa: PLC0415

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[files]}"),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bars:
        yield MoveProgressBar(bars)


class MoveProgressBar:
    """A bar for each step, by bytes, with the number of files beside it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._done = 0
        self._files = 0

    def begin(self, title: str, files: int, size: int) -> None:
        self._done, self._files = 0, files
        self._task = self._bars.add_task(title, total=size, files=self._count())

    def advance(self, size: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, size)

    def done(self, size: int) -> None:
        self._done += 1
        if self._task is not None:
            self._bars.update(self._task, advance=size, files=self._count())

    def say(self, line: str) -> None:
        self._bars.console.print(line, highlight=False)

    def _count(self) -> str:
        return f"{self._done}/{self._files} files"


class MoveProgressLines:
    """A line at the beginning of each step, every few seconds while it lasts, and at its end."""

    def __init__(self) -> None:
        self._title = ""
        self._files = self._size = self._done = self._moved = 0
        self._started_at = self._printed_at = 0.0

    def begin(self, title: str, files: int, size: int) -> None:
        self.finish()
        self._title, self._files, self._size = title, files, size
        self._done = self._moved = 0
        self._started_at = self._printed_at = time.monotonic()
        self.say(f"{title}: {files} files, {format_size(size)}")

    def advance(self, size: int) -> None:
        self._moved += size
        if time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._print_line()

    def done(self, size: int) -> None:
        self._done += 1
        self.advance(size)

    def say(self, line: str) -> None:
        typer.echo(line, err=True)

    def finish(self) -> None:
        if self._files and self._title:
            self._print_line()
        self._title = ""

    def _print_line(self) -> None:
        self._printed_at = time.monotonic()
        rate = self._moved / max(self._printed_at - self._started_at, 0.001)
        left = (
            f", {format_duration((self._size - self._moved) / rate)} left" if rate and self._moved < self._size else ""
        )
        self.say(
            f"{self._title}: {self._done}/{self._files} files, {format_size(self._moved)} of {format_size(self._size)}"
            f" at {format_size(rate)}/s{left}"
        )
