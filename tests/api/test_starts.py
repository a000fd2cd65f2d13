"""Starts that must fail: one line, a status other than 0, and nothing left open."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from app.api.front import Front
from app.catalog.errors import CatalogUnavailable
from tests.api.starting import StartService
from tests.real.service import Service

PATIENCE = 60.0


class Opening:
    """Services that fail to open or to close, and a server's side of the lifespan."""

    def __init__(self, *, opening: Exception | None = None, closing: Exception | None = None) -> None:
        self._opening = opening
        self._closing = closing
        self.sent: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        if self._opening:
            raise self._opening
        yield SimpleNamespace()
        if self._closing:
            raise self._closing

    async def lifespan(self) -> Front:
        async def nothing(*_: Any) -> None:
            raise AssertionError("no request was made")

        async def receive() -> Message:
            return {"type": "lifespan"}

        async def send(message: Message) -> None:
            self.sent.append(message["type"])

        front = Front(nothing, lambda _: None, lambda *_: None, self, SimpleNamespace())
        await front({"type": "lifespan"}, receive, send)
        return front


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CatalogUnavailable("database is locked"), "database is locked"),
        (KeyError("surprise"), "unforeseen KeyError, see the log"),
    ],
)
async def test_whatever_fails_while_opening_ends_the_start(error: Exception, told: str) -> None:
    opening = Opening(opening=error)

    front = await opening.lifespan()

    assert opening.sent == ["lifespan.startup.failed"]
    assert front.start_failure == told


async def test_a_failure_while_closing_is_told_to_the_server() -> None:
    opening = Opening(closing=OSError("disk gone"))

    await opening.lifespan()

    assert opening.sent == ["lifespan.startup.complete", "lifespan.shutdown.failed"]


def test_a_catalogue_that_fails_after_it_was_opened_ends_the_start(start_service: StartService) -> None:
    service = start_service("local")
    service.stop()
    with sqlite3.connect(service.stack.folder / "catalogue.db") as catalogue:
        catalogue.execute("DROP TABLE installation")

    assert refusal(service) == "mediavault: DB_URL: no such table: installation\n"


def refusal(service: Service) -> str:
    """Everything that a start which ends by itself shows."""
    seen = len(service.log) + len(service.output)
    status = service.launch().wait(PATIENCE)
    assert status in (2, 3)
    return (service.log + service.output)[seen:]
