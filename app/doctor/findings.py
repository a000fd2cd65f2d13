"""What a diagnosis has found, line by line."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.catalog.errors import CatalogError
from app.storage.errors import StorageError


class CheckOutcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """The service works, and something is lacking or close to an edge."""
    FAILED = "failed"
    """The service does not work, or loses what it should keep."""
    SKIPPED = "skipped"
    """Not looked at; the detail says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`hint` is what may be done about it, "" where nothing need be or is known."""

    area: str
    check: str
    outcome: CheckOutcome
    detail: str
    hint: str = ""


class DiagnosisReport:
    """All findings, in the order in which they were made. No text of `secrets` and no control character gets into it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self.findings: list[Finding] = []

    def section(self, name: str) -> ReportSection:
        return ReportSection(self, name)

    def add(self, area: str, check: str, outcome: CheckOutcome, detail: str, hint: str) -> None:
        self.findings.append(Finding(area, check, outcome, self._redact(detail), self._redact(hint)))

    @property
    def has_failures(self) -> bool:
        return any(finding.outcome is CheckOutcome.FAILED for finding in self.findings)

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return "".join(letter if letter.isprintable() else " " for letter in text)


class ReportSection:
    """One part of the set-up: findings are added to it."""

    def __init__(self, report: DiagnosisReport, name: str) -> None:
        self._report = report
        self._name = name

    def ok(self, check: str, detail: str = "") -> None:
        self._report.add(self._name, check, CheckOutcome.OK, detail, "")

    def warn(self, check: str, detail: str, hint: str = "") -> None:
        self._report.add(self._name, check, CheckOutcome.WARNING, detail, hint)

    def fail(self, check: str, detail: str, hint: str = "") -> None:
        self._report.add(self._name, check, CheckOutcome.FAILED, detail, hint)

    def skip(self, check: str, detail: str) -> None:
        self._report.add(self._name, check, CheckOutcome.SKIPPED, detail, "")

    async def run_check(self, check: str, check_result: Awaitable[str]) -> bool:
        """True where it works; `check_result` says what was found. What it raises is a finding."""
        try:
            detail = await check_result
        except UnexpectedResult as error:
            self.fail(check, str(error), error.hint)
        except StorageError as error:
            self.fail(check, error.detail or type(error).__name__, error.hint)
        except (CatalogError, OSError) as error:
            self.fail(check, str(error) or type(error).__name__)
        else:
            self.ok(check, detail)
            return True
        return False


class UnexpectedResult(Exception):
    """A call was answered, and the answer is wrong."""

    def __init__(self, text: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(text)


def format_size(count: int) -> str:
    """Bytes, for people."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
