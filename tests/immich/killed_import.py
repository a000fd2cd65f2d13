"""`python -m tests.immich.killed_import <order>`: runs an import, or follows, and kills itself right before or right after its n-th transaction in
our catalogue is committed. The order is a `DyingOrder` as JSON; the number of transactions is written to a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.catalog.catalog import open_catalog
from app.catalog.database.engine import Database
from app.immich.import_run import ImmichImport, ImportOptions
from app.immich.media_roots import parse_media_roots
from app.immich.source.connection import open_source
from app.immich.source.reader import SourceReader

PAGE_ROWS = 12


@dataclass(frozen=True, slots=True)
class DyingOrder:
    """`transaction` counts from 1; 0 lets the child live. `is_follow`: follow instead of import."""

    db_url: str
    source_url: str
    media_roots: list[str]
    transaction: int
    after: bool
    is_follow: bool
    count_path: str


class QuietProgress:
    def begin(self, stage: str, total: int | None) -> None:
        """Shows nothing."""

    def advance(self, count: int, size: int = 0) -> None:
        """Shows nothing."""


def die_at(order: DyingOrder) -> None:
    """Kill this process at the transaction of the order. The number of transactions so far is in the file `count_path`."""
    original: Any = Database._transaction
    count = 0

    @asynccontextmanager
    async def transact(database: Database, seconds: float | None) -> AsyncIterator[Any]:
        nonlocal count
        async with original(database, seconds) as connection:
            yield connection
            count += 1
            with open(order.count_path, "w") as file:  # noqa: PTH123 - in the event loop, of a child that is about to die
                file.write(str(count))
            if count == order.transaction and not order.after:
                os.kill(os.getpid(), signal.SIGKILL)
        if count == order.transaction and order.after:
            os.kill(os.getpid(), signal.SIGKILL)

    Database._transaction = transact  # pyright: ignore[reportAttributeAccessIssue]


async def carry_out(order: DyingOrder) -> None:
    catalog = await open_catalog(order.db_url, upgrade=False)
    roots = parse_media_roots(order.media_roots)
    die_at(order)
    try:
        async with open_source(order.source_url) as connection:
            reader = await SourceReader.open(connection)
            run = ImmichImport(catalog, reader, roots, ImportOptions(), QuietProgress(), page_rows=PAGE_ROWS)
            await (run.follow(compare_after=timedelta(days=1)) if order.is_follow else run.import_all())
    finally:
        await catalog.aclose()


if __name__ == "__main__":
    asyncio.run(carry_out(DyingOrder(**json.loads(sys.argv[1]))))
