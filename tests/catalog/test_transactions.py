"""`Database.transact`: a transaction as one function."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, select, update

from app.catalog.catalog import Catalog
from app.catalog.errors import ConstraintViolation
from app.catalog.schema import tables
from tests.catalog.rows import make_user

PATIENCE = 20.0

_user = tables.user


def rename(name: str) -> Callable[[Connection], str | None]:
    def function(connection: Connection) -> str | None:
        connection.execute(update(_user).values(name=name))
        return connection.execute(select(_user.c.name)).scalar_one()

    return function


async def test_its_result_is_the_functions(catalog: Catalog) -> None:
    user = await make_user(catalog)

    assert await catalog.database.transact(rename("Berta")) == "Berta"

    changed = await catalog.users.get(user.id)
    assert changed is not None
    assert changed.name == "Berta"


async def test_an_error_undoes_it_and_is_translated(catalog: Catalog) -> None:
    user = await make_user(catalog)

    def fail(connection: Connection) -> None:
        rename("Berta")(connection)
        connection.execute(update(_user).values(email=None))

    with pytest.raises(ConstraintViolation):
        await catalog.database.transact(fail)

    assert await catalog.users.get(user.id) == user
    assert await catalog.database.transact(rename("Clara")) == "Clara", "the connection serves the next one"


async def test_a_cancelled_one_takes_place_whole_or_not_at_all(catalog: Catalog) -> None:
    user = await make_user(catalog)
    begun, released = threading.Event(), threading.Event()

    def wait(connection: Connection) -> None:
        connection.execute(update(_user).values(name="Berta"))
        begun.set()
        if threading.current_thread() is not threading.main_thread():
            released.wait(PATIENCE)
        connection.execute(update(_user).values(email="berta@example.com"))

    cancelled = asyncio.create_task(catalog.database.transact(wait))
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(begun.wait, PATIENCE)
        cancelled.cancel()
        await asyncio.wait([cancelled], timeout=0)
        released.set()
        await asyncio.wait([cancelled])

        assert await catalog.database.transact(lambda connection: None) is None
    changed = await catalog.users.get(user.id)
    assert changed is not None
    assert (changed.name, changed.email) in {(user.name, user.email), ("Berta", "berta@example.com")}
