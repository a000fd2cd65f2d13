"""The `mediavault` command: start-up time and arguments of commands other than `serve`."""

from __future__ import annotations

import py_compile
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli

SLOW = ("alembic", "argon2", "botocore", "fastapi", "PIL", "procrastinate", "rich.table", "structlog", "uvicorn")
PATIENCE = 60.0
CLI = Path(__file__).parent.parent / "app" / "cli"


def test_it_loads_nothing_that_only_the_service_needs() -> None:
    program = f"import sys, app.cli; print([name for name in {SLOW!r} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert loaded.stdout == "[]\n"


def test_it_looks_for_no_garbage_while_it_loads() -> None:
    """There is none; looking was a quarter of each start, and a service would look through all of it again and again."""
    for module in ("__init__", "fast_imports"):  # to compile what turns collection off would be counted, too
        py_compile.compile(str(CLI / f"{module}.py"), doraise=True)
    counted = "sum(each['collections'] for each in gc.get_stats())"
    program = f"import gc; before = {counted}; import app.cli; print({counted} - before, gc.isenabled(), gc.get_freeze_count() > 10_000)"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert loaded.stdout == "0 True True\n"


def mediavault(db_url: str, *words: str, said: str = "") -> Result:
    return CliRunner().invoke(cli, words, input=said, env={"DB_URL": db_url, "COLUMNS": "200"})


@pytest.mark.parametrize("password", ["", "seven77", "ä" * 7, "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_makes_no_user(tmp_path: Path, password: str) -> None:
    db_url = f"sqlite:///{tmp_path}/catalogue.db"

    refused = mediavault(db_url, "user", "add", "a@example.org", "--password-stdin", said=f"{password}\n")

    assert refused.exit_code == 2
    assert "a password has at " in refused.stderr
    assert not password or password not in refused.output
    assert "a@example.org" not in mediavault(db_url, "user", "list").output


def test_a_password_of_eight_characters_is_taken(tmp_path: Path) -> None:
    db_url = f"sqlite:///{tmp_path}/catalogue.db"

    assert mediavault(db_url, "user", "add", "a@example.org", "--password-stdin", said="ä" * 8 + "\n").exit_code == 0
    assert "a@example.org" in mediavault(db_url, "user", "list").output


@pytest.mark.parametrize("command", [("user", "list"), ("db", "upgrade"), ("library", "list")])
def test_no_part_of_the_databases_password_is_told(command: tuple[str, ...]) -> None:
    refused = mediavault("postgresql://me:qXzJv@WkYpR@127.0.0.1:9/photos", *command)

    assert refused.exit_code == 2
    assert "%40" in refused.stderr
    assert "qXzJv" not in refused.output
    assert "WkYpR" not in refused.output
