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
