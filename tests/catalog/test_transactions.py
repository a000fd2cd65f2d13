"""`Database.transact`: a transaction as one function."""

from __future__ import annotations

import asyncio
import dataclasses
import threading

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.sqlite_driver import Transaction
from app.catalog.errors import CatalogError, ConstraintViolation
from app.catalog.schema import tables
from app.catalog.schema.upload_records import Upload
from tests.catalog.rows import make_user
from tests.real.catalogues import Databases

PATIENCE = 20.0

_user = tables.user


def rename(name: str) -> Transaction[str | None]:
    async def function(connection: AsyncConnection) -> str | None:
        await connection.execute(update(_user).values(name=name))
        return (await connection.execute(select(_user.c.name))).scalar_one()

    return function


async def test_its_result_is_the_functions(catalog: Catalog) -> None:
    user = await make_user(catalog)

    assert await catalog.database.transact(rename("Berta")) == "Berta"

    changed = await catalog.users.get(user.id)
    assert changed is not None
    assert changed.name == "Berta"


async def test_an_error_undoes_it_and_is_translated(catalog: Catalog) -> None:
    user = await make_user(catalog)

    async def fail(connection: AsyncConnection) -> None:
        await rename("Berta")(connection)
        await connection.execute(update(_user).values(email=None))

    with pytest.raises(ConstraintViolation):
        await catalog.database.transact(fail)

    assert await catalog.users.get(user.id) == user
    assert await catalog.database.transact(rename("Clara")) == "Clara", "the connection serves the next one"


async def test_a_cancelled_one_takes_place_whole_or_not_at_all(catalog: Catalog) -> None:
    user = await make_user(catalog)
    begun, released = threading.Event(), threading.Event()

    async def wait(connection: AsyncConnection) -> None:
        await connection.execute(update(_user).values(name="Berta"))
        begun.set()
        if threading.current_thread() is not threading.main_thread():
            released.wait(PATIENCE)
        await connection.execute(update(_user).values(email="berta@example.com"))

    cancelled = asyncio.create_task(catalog.database.transact(wait))
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(begun.wait, PATIENCE)
        cancelled.cancel()
        await asyncio.wait([cancelled], timeout=0)
        released.set()
        await asyncio.wait([cancelled])

        names = await catalog.database.transact(read_names)  # after the cancelled one

    assert names in {(user.name, user.email), ("Berta", "berta@example.com")}


async def read_names(connection: AsyncConnection) -> tuple[str, str]:
    row = (await connection.execute(select(_user.c.name, _user.c.email))).one()
    return row.name, row.email


async def test_nothing_else_is_awaited_in_it(databases: Databases) -> None:
    """In SQLite's thread nothing could be: the mistake is an error at the first call, and undoes the transaction."""
    catalog = await open_catalog(databases.ready("sqlite"))
    try:
        user = await make_user(catalog)

        async def wait(connection: AsyncConnection) -> None:
            await rename("Berta")(connection)
            await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="awaits something else"):
            await catalog.database.transact(wait)

        assert await catalog.users.get(user.id) == user
    finally:
        await catalog.aclose()


async def test_queries_in_one_call_see_what_was_committed(catalog: Catalog) -> None:
    user = await make_user(catalog)
    await catalog.database.transact(rename("Berta"))

    assert await catalog.database.query(read_names) == ("Berta", user.email)

    async def fail(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(CatalogError):
        await catalog.database.query(fail)
    assert await catalog.database.query(read_names) == ("Berta", user.email), "the connection serves the next one"


def test_rows_of_sessions_have_the_order_of_their_fields() -> None:
    """They are read by position."""
    assert [column.name for column in tables.upload.c] == [field.name for field in dataclasses.fields(Upload)]
