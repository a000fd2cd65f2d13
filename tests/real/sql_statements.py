"""Records the statements that the catalogue sends in this process, and asks the database how it would run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class SentStatement:
    """As it was sent, with its parameters in the driver's form."""

    text: str
    parameters: Any
    is_many: bool = False


@contextmanager
def record_statements() -> Iterator[list[SentStatement]]:
    """All statements of all engines while the block runs."""
    sent: list[SentStatement] = []

    def record(_connection: Connection, _cursor: Any, text: str, parameters: Any, _context: Any, is_many: bool) -> None:
        sent.append(SentStatement(text, parameters, is_many))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", record)


async def explain(connection: AsyncConnection, statement: SentStatement) -> list[Any]:
    """The steps of SQLite's plan, as texts; of PostgreSQL one plan, from its JSON."""
    parameters = statement.parameters[0] if statement.is_many else statement.parameters
    prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN (FORMAT JSON)"
    driver_connection = (await connection.get_raw_connection()).driver_connection
    if driver_connection is None:
        raise RuntimeError("the connection is closed")
    given = (parameters,) if parameters else ()
    cursor = await driver_connection.execute(f"{prefix} {statement.text}", *given)
    return [tuple(row)[-1] for row in await cursor.fetchall()]
