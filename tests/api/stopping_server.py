"""`python -m tests.api.stopping_server serve`: mediavault, which stops itself (SIGSTOP) in the middle of a transaction: when it has written a
session's row, and not yet the row of the session's file. It does so once, where `MEDIAVAULT_TEST_STOPS` is set.

Waits for locks of the database, and transactions that are left alone, end after seconds instead of a minute.
"""

from __future__ import annotations

import os
import signal
from functools import wraps
from typing import Any

from app.catalog.database import time_limits
from app.catalog.uploads import uploads
from app.cli import main

BUSY_SECONDS = 1
IDLE_SECONDS = 4


def stop_in_transaction() -> None:
    insert = uploads.insert_writing_file

    @wraps(insert)
    async def insert_after_stop(*args: Any) -> Any:
        uploads.insert_writing_file = insert
        os.kill(os.getpid(), signal.SIGSTOP)
        return await insert(*args)

    uploads.insert_writing_file = insert_after_stop


if __name__ == "__main__":
    time_limits.BUSY_SECONDS = BUSY_SECONDS
    time_limits.STATEMENT_SECONDS = IDLE_SECONDS
    if "MEDIAVAULT_TEST_STOPS" in os.environ:
        stop_in_transaction()
    main()
