"""The command beside `serve`: quick to start."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("alembic", "argon2", "botocore", "fastapi", "PIL", "procrastinate", "rich.table", "structlog", "uvicorn")
PATIENCE = 60.0


def test_it_loads_nothing_that_only_the_service_needs() -> None:
    program = f"import sys, app.cli; print([name for name in {SLOW!r} if name in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert loaded.stdout == "[]\n"


def test_it_looks_for_no_garbage_while_it_loads() -> None:
    """There is none; looking was a quarter of each start, and a service would look through all of it again and again."""
    counted = "sum(each['collections'] for each in gc.get_stats())"
    program = f"import gc; before = {counted}; import app.cli; print({counted} - before, gc.isenabled(), gc.get_freeze_count() > 10_000)"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert loaded.stdout == "0 True True\n"
