"""Output of `mediavault verify`: findings as a table, JSON or CSV, each written as soon as it is found, and progress on standard error."""

from __future__ import annotations

import csv
import json
import sys
import time
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

from app.migration.consistency.findings import ConsistencyFinding, ConsistencySummary

_COLUMNS = (
    "problem",
    "kind",
    "path",
    "expected_size",
    "found_size",
    "detail",
    "repair",
    "file_id",
    "owner_id",
    "upload_id",
)
_LINE_SECONDS = 10.0


class ReportFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class VerifyReport(Protocol):
    def begin(self) -> None: ...

    def add(self, finding: ConsistencyFinding) -> None: ...

    def end(self, summary: ConsistencySummary) -> None: ...

    def fail(self, reason: str) -> None:
        """Ends a report that is incomplete, whether it has begun or not."""
        ...


def create_report(format_: ReportFormat) -> VerifyReport:
    """A report that writes to standard output."""
    return {ReportFormat.TABLE: TableReport, ReportFormat.JSON: JsonReport, ReportFormat.CSV: CsvReport}[format_]()


def _finding_to_dict(finding: ConsistencyFinding) -> dict[str, Any]:
    file = finding.file
    return {
        "problem": finding.problem.value,
        "kind": file.kind.value if file else None,
        "path": finding.path,
        "expected_size": file.size if file else None,
        "found_size": finding.found_size,
        "detail": finding.detail or None,
        "repair": finding.repair,
        "file_id": str(file.id) if file else None,
        "owner_id": str(file.owner_id) if file else None,
        "upload_id": str(finding.upload_id) if finding.upload_id else None,
    }


def _summary_to_dict(summary: ConsistencySummary) -> dict[str, Any]:
    return {
        "objects": summary.objects,
        "files": summary.files,
        "bytes_read": summary.bytes_read,
        "known": dict(summary.known),
        "external": summary.external,
        "foreign": summary.foreign,
        "copies": summary.copies,
        "unsettled": summary.unsettled,
        "uploads": summary.uploads,
        "problems": {problem.value: count for problem, count in summary.problems.items()},
        "repaired": dict(summary.repaired),
    }


class TableReport:
    """Columns for a terminal, one finding a line for `grep`. Paths with control characters are escaped: they could be terminal commands."""

    def begin(self) -> None:
        """The headings are printed with the first finding."""
        self._has_findings = False

    def add(self, finding: ConsistencyFinding) -> None:
        if not self._has_findings:
            self._has_findings = True
            print(f"{'problem':<11} {'kind':<13} {'bytes':>13} {'found':>13}  path")
        file = finding.file
        expected = "" if file is None or file.size is None else str(file.size)
        found = "" if finding.found_size is None else str(finding.found_size)
        kind = file.kind.value if file else ""
        notes = "; ".join(filter(None, (finding.detail, finding.repair)))
        path = finding.path if finding.path.isprintable() else ascii(finding.path)
        print(
            f"{finding.problem.value:<11} {kind:<13} {expected:>13} {found:>13}  {path}{f'  ({notes})' if notes else ''}"
        )

    def end(self, summary: ConsistencySummary) -> None:
        known = "".join(f", {count} of kind {kind}" for kind, count in sorted(summary.known.items()))
        print(f"{summary.objects} objects{known}")
        print(f"{summary.files} files", end="")
        print(f", {summary.bytes_read} bytes read" if summary.bytes_read else "", end="")
        print(f", {summary.foreign} foreign files" if summary.foreign else "", end="")
        print(f", {summary.copies} copies of these" if summary.copies else "", end="")
        print(f", {summary.unsettled} being written or deleted" if summary.unsettled else "", end="")
        print(f", {summary.uploads} unfinished uploads" if summary.uploads else "", end="")
        print(f", {summary.external} in external folders, which a scan looks after" if summary.external else "")
        problems = ", ".join(f"{count} {problem}" for problem, count in sorted(summary.problems.items()))
        repaired = ", ".join(f"{count} {repair}" for repair, count in sorted(summary.repaired.items()))
        print(f"problems: {problems or 'none'}{f'; of these {repaired}' if repaired else ''}")

    def fail(self, reason: str) -> None:
        """Writes nothing: the command prints the reason to standard error."""


class JsonReport:
    """One JSON document, streamed. Nothing is written if the comparison fails before it begins."""

    def __init__(self) -> None:
        self._separator = ""

    def begin(self) -> None:
        self._separator = "\n"
        print('{"findings": [', end="")

    def add(self, finding: ConsistencyFinding) -> None:
        print(self._separator + json.dumps(_finding_to_dict(finding)), end="")
        self._separator = ",\n"

    def end(self, summary: ConsistencySummary) -> None:
        print(f'\n], "summary": {json.dumps(_summary_to_dict(summary))}}}')

    def fail(self, reason: str) -> None:
        if self._separator:
            print(f'\n], "error": {json.dumps(reason)}}}')


class CsvReport:
    """Findings only; the summary goes to standard error, as JSON."""

    def begin(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(_COLUMNS)

    def add(self, finding: ConsistencyFinding) -> None:
        values = _finding_to_dict(finding)
        self._writer.writerow([values[column] for column in _COLUMNS])

    def end(self, summary: ConsistencySummary) -> None:
        print(json.dumps(_summary_to_dict(summary)), file=sys.stderr)

    def fail(self, reason: str) -> None:
        """Writes nothing: the command prints the reason to standard error."""


class VerifyProgressLines:
    """Prints a line to standard error for each stage and every ten seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._total: int | None = None
        self._count = self._bytes = 0
        self._next_line_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clear."""

    def begin(self, stage: str, total: int | None) -> None:
        self._stage, self._total = stage, total
        self._count = self._bytes = 0
        self._next_line_at = time.monotonic() + _LINE_SECONDS
        print(stage, file=sys.stderr, flush=True)

    def advance(self, count: int, size: int = 0) -> None:
        self._count += count
        self._bytes += size
        if time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + _LINE_SECONDS
            of = f" of {self._total}" if self._total is not None else ""
            read = f", {self._bytes} bytes" if self._bytes else ""
            print(f"{self._stage}: {self._count}{of}{read}", file=sys.stderr, flush=True)


class VerifyProgressBars:
    """Shows a bar on the terminal for each stage, with rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[read]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            redirect_stdout=sys.stdout.isatty(),  # prints findings above the bars; a file is not redirected
        )
        self._task: Any = None
        self._started_at = 0.0
        self._bytes = 0

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def begin(self, stage: str, total: int | None) -> None:
        if self._task is not None:
            self._progress.stop_task(self._task)
        self._started_at, self._bytes = time.monotonic(), 0
        self._task = self._progress.add_task(stage, total=total, read="")

    def advance(self, count: int, size: int = 0) -> None:
        self._bytes += size
        rate = self._bytes / max(0.001, time.monotonic() - self._started_at) / 1024**2
        self._progress.update(self._task, advance=count, read=f"{rate:.1f} MiB/s" if self._bytes else "")


def create_progress() -> VerifyProgressLines | VerifyProgressBars:
    """Bars on a terminal, plain lines elsewhere."""
    with suppress(AttributeError, ValueError):
        if sys.stderr.isatty():
            return VerifyProgressBars()
    return VerifyProgressLines()
