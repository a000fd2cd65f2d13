"""What a diagnosis has found, line by line."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.catalog.errors import CatalogError
from app.storage.errors import StorageError


class Outcome(StrEnum):
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
    outcome: Outcome
    detail: str
    hint: str = ""


class Report:
    """All findings, in the order in which they were made. No text of `secrets` and no control character gets into it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self.findings: list[Finding] = []

    def area(self, name: str) -> Area:
        return Area(self, name)

    def add(self, area: str, check: str, outcome: Outcome, detail: str, hint: str) -> None:
        self.findings.append(Finding(area, check, outcome, self._shown(detail), self._shown(hint)))

    @property
    def failed(self) -> bool:
        return any(finding.outcome is Outcome.FAILED for finding in self.findings)

    def _shown(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return "".join(letter if letter.isprintable() else " " for letter in text)


class Area:
    """One part of the set-up: findings are added to it."""

    def __init__(self, report: Report, name: str) -> None:
        self._report = report
        self._name = name

    def ok(self, check: str, detail: str = "") -> None:
        self._report.add(self._name, check, Outcome.OK, detail, "")

    def warn(self, check: str, detail: str, hint: str = "") -> None:
        self._report.add(self._name, check, Outcome.WARNING, detail, hint)

    def fail(self, check: str, detail: str, hint: str = "") -> None:
        self._report.add(self._name, check, Outcome.FAILED, detail, hint)

    def skip(self, check: str, detail: str) -> None:
        self._report.add(self._name, check, Outcome.SKIPPED, detail, "")

    async def attempt(self, check: str, work: Awaitable[str]) -> bool:
        """True where it works; `work` says what was found. What it raises is a finding."""
        try:
            detail = await work
        except NotAsItShould as error:
            self.fail(check, str(error), error.hint)
        except StorageError as error:
            self.fail(check, error.detail or type(error).__name__, error.hint)
        except (CatalogError, OSError) as error:
            self.fail(check, str(error) or type(error).__name__)
        else:
            self.ok(check, detail)
            return True
        return False


class NotAsItShould(Exception):
    """A call was answered, and the answer is wrong."""

    def __init__(self, text: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(text)


def size_text(count: int) -> str:
    """Bytes, for people."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
