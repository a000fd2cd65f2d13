"""`python -m tests.immich.dying_server`: forks a child process for each order on standard input, with all modules already imported.

The child runs an import, or follows, and kills itself right before or right after its n-th transaction in our catalogue is committed, or after a
time. An order is a line of JSON (`DyingOrder`); the answer is the child's exit status and the number of its transactions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.catalog.catalog import open_catalog
from app.catalog.database.engine import Database
from app.immich.import_run import ImmichImport, ImportOptions
from app.immich.media_roots import parse_media_roots
from app.immich.source.connection import open_source
from app.immich.source.reader import SourceReader

PAGE_ROWS = 12
STAGE_SUFFIX = ".stage"


@dataclass(frozen=True, slots=True)
class DyingOrder:
    """`transaction` counts from 1; 0 lets the child live, or until `delay` seconds have passed, if that is not 0. `is_follow`: follow instead
    of import."""

    db_url: str
    source_url: str
    media_roots: list[str]
    transaction: int
    after: bool
    is_follow: bool
    count_path: str
    delay: float = 0.0


class QuietProgress:
    def begin(self, stage: str, total: int | None) -> None:
        """Shows nothing."""

    def advance(self, count: int, size: int = 0) -> None:
        """Shows nothing."""


class StageProgress(QuietProgress):
    """Writes the stage to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        write_whole(path, "accounts")

    def begin(self, stage: str, total: int | None) -> None:
        write_whole(self._path, stage)


def write_whole(path: Path, text: str) -> None:
    """Whenever the process dies, the file has the former text or this one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def die_at(order: DyingOrder) -> None:
    """Kill this process at the transaction of the order. The number of transactions so far is in the file `count_path`."""
    original: Any = Database._transaction
    count = 0
    count_path = Path(order.count_path)
    write_whole(count_path, "0")
    if order.delay:
        threading.Timer(order.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    @asynccontextmanager
    async def transact(database: Database, seconds: float | None) -> AsyncIterator[Any]:
        nonlocal count
        async with original(database, seconds) as connection:
            yield connection
            count += 1
            write_whole(count_path, str(count))
            if count == order.transaction and not order.after:
                os.kill(os.getpid(), signal.SIGKILL)
        if count == order.transaction and order.after:
            os.kill(os.getpid(), signal.SIGKILL)

    Database._transaction = transact  # pyright: ignore[reportAttributeAccessIssue]


async def carry_out(order: DyingOrder) -> None:
    catalog = await open_catalog(order.db_url, upgrade=False)
    roots = parse_media_roots(order.media_roots)
    progress = StageProgress(Path(order.count_path).with_suffix(STAGE_SUFFIX))
    die_at(order)
    try:
        async with open_source(order.source_url) as connection:
            reader = await SourceReader.open(connection)
            run = ImmichImport(catalog, reader, roots, ImportOptions(), progress, page_rows=PAGE_ROWS)
            await (run.follow(compare_after=timedelta(days=1)) if order.is_follow else run.import_all())
    finally:
        await catalog.aclose()


def main() -> None:
    for line in sys.stdin:
        order = DyingOrder(**json.loads(line))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.run(carry_out(order))
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


if __name__ == "__main__":
    main()
