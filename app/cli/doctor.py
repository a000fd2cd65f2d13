"""`mediavault doctor`: runs the checks of the set-up and prints their findings, as a table or as JSON.

Exit status, for scripts: 0 no check failed (there may be warnings), 1 a check failed, 2 the diagnosis could not be carried out.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.command_runner import fail, run_command
from app.config import SettingsError, load_settings
from app.doctor.findings import CheckOutcome, DiagnosisReport, Finding

FAILED = 1
_STYLES = {
    CheckOutcome.OK: "green",
    CheckOutcome.WARNING: "yellow",
    CheckOutcome.FAILED: "bold red",
    CheckOutcome.SKIPPED: "dim",
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document in the place of the table.")] = False,
) -> None:
    """Try out all that the service stands on, and say what holds and what does not. Safe while the service runs; nothing is changed.

    Exit status: 0 all that is needed holds, 1 something does not, 2 it could not be carried out.
    """
    report = _run_diagnosis()
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        typer.echo(json.dumps({"failed": report.has_failures, "findings": findings}, indent=2, ensure_ascii=False))
    else:
        _print_findings(report.findings)
    if report.has_failures:
        raise typer.Exit(FAILED)


def _run_diagnosis() -> DiagnosisReport:
    try:
        settings = load_settings()
    except SettingsError as error:
        report = DiagnosisReport()
        report.section("settings").fail("settings", str(error), "see .env.example")
        return report

    from app.api.logging_setup import configure_logging  # noqa: PLC0415 - slow to import
    from app.doctor.diagnosis import diagnose  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    try:
        return run_command(diagnose(settings))
    except KeyboardInterrupt:
        fail("interrupted")
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - an uncaught exception would end with status 1, which means a failed check
        fail(f"the diagnosis could not be carried out: {type(error).__name__}")


def _print_findings(findings: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None)
    for name in ("part", "check", "", "found"):
        table.add_column(name, overflow="fold", no_wrap=name == "")
    for finding in findings:
        found = Text(finding.detail)
        if finding.hint:
            found.append(f"{' ' if finding.detail else ''}-> {finding.hint}", "italic")
        outcome = Text(finding.outcome.value, _STYLES[finding.outcome])
        table.add_row(Text(finding.area), Text(finding.check), outcome, found)
    Console().print(table)
