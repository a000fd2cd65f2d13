"""HEAD while other requests have the upload, and while the service can not tell: a stand-in shows what a race would only sometimes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.api.authentication.authenticator import Identity
from app.api.errors import install_error_handlers
from app.api.http.application import ApiApplication
from app.api.routes.uploads import ietf, tus
from app.catalog.errors import CatalogLocked, CatalogUnavailable
from app.catalog.schema.upload_records import UploadState
from app.uploads.sessions.errors import UploadTakenOver
from app.uploads.sessions.session_values import UploadStatus
from tests.api.uploads.upload_clients import TUS

Outcome = Exception | int


class ScriptedSessions:
    """`get_status` raises or returns what `outcomes` tells, one after the other."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes: Iterator[Outcome] = iter(outcomes)

    async def get_status(self, _caller: Any, upload_id: Any) -> UploadStatus:
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return UploadStatus(upload_id, UploadState.RECEIVING, outcome, 10, datetime.now(UTC))


async def head(path: str, *outcomes: Outcome) -> httpx.Response:
    api = FastAPI()
    install_error_handlers(api)
    for router in (tus.router, ietf.router):
        api.include_router(router)
    user: Any = SimpleNamespace(id=uuid4())

    async def identify(_scope: Any) -> Identity:
        return Identity(user, frozenset({"all"}), b"")

    outages = SimpleNamespace(record_failure=lambda *_: False)
    api.state.services = SimpleNamespace(
        upload_sessions=ScriptedSessions(*outcomes),
        authenticator=SimpleNamespace(identify=identify),
        settings=SimpleNamespace(upload_limit=99, public_url=None),
        catalog=SimpleNamespace(outages=outages),
    )
    unused: Any = None
    application = ApiApplication(api, lambda _: None, unused, unused, api.state)
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.head(f"/api/{path}/{uuid4()}", headers=TUS)


@pytest.mark.parametrize(("path", "status"), [("uploads", 200), ("upload", 204)])
async def test_a_late_request_of_a_broken_connection_does_not_win(path: str, status: int) -> None:
    answer = await head(path, UploadTakenOver(), UploadTakenOver(), 7)
    assert (answer.status_code, answer.headers["upload-offset"]) == (status, "7")


@pytest.mark.parametrize(("path", "status"), [("uploads", 423), ("upload", 409)])
async def test_another_client_that_is_at_work_wins(path: str, status: int) -> None:
    answer = await head(path, UploadTakenOver(), UploadTakenOver(), UploadTakenOver(), 7)
    assert answer.status_code == status
    assert "upload-offset" not in answer.headers


@pytest.mark.parametrize(("path", "status"), [("uploads", 423), ("upload", 503)])
@pytest.mark.parametrize("error", [CatalogLocked("x"), CatalogUnavailable("x")])
async def test_what_passes_is_no_reason_to_begin_anew(path: str, status: int, error: Exception) -> None:
    answer = await head(path, error)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) > 0
