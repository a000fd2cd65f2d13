"""Runs `mediavault …` with a service's settings inside the test process: a new process takes a second to start."""

from __future__ import annotations

import logging
import subprocess

import structlog
from typer.testing import CliRunner

from app.cli import cli
from tests.real.service import Service


def mediavault(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `Service.run`, for tests that are no coroutines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        ended = CliRunner().invoke(cli, list(arguments), env=service.environment)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return subprocess.CompletedProcess(arguments, ended.exit_code, ended.stdout, ended.stderr)
