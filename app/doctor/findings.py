"""Findings of a diagnosis and the report that collects them. Secrets and control characters are removed from every text."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.catalog.errors import CatalogError
from app.storage.errors import StorageError


class CheckOutcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """The service works, but something is missing or close to a limit."""
    FAILED = "failed"
    """The service does not work, or may lose data."""
    SKIPPED = "skipped"
    """Not checked; the detail says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `area`: the part of the set-up. `hint`: what the operator can do; "" if nothing."""

    area: str
    check: str
    outcome: CheckOutcome
    detail: str
    hint: str = ""


class DiagnosisReport:
    """All findings, in order. Each of `secrets` is replaced by `…`, and each character that is not printable by a space."""

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
        return "".join(character if character.isprintable() else " " for character in text)


class ReportSection:
    """Adds findings on one part of the set-up to a report."""

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
        """Awaits a check and adds its finding: the returned text, or the error that it raises. True if it raised none."""
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
    """A call succeeded, but its result is wrong. `hint`: see `Finding`."""

    def __init__(self, text: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(text)


def format_size(count: int) -> str:
    """A number of bytes in its largest fitting binary unit."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
