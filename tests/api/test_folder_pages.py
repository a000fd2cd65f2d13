"""The pages of a folder make one JSON array, whichever of them have become empty meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from app.api.authentication.authenticator import Identity
from app.api.routes.browsing.folders import get_folder
from app.api.services import Services
from app.catalog.schema.records import Asset, AssetType
from tests.api.test_renditions import asset

FIRST, SECOND = (asset(f"{number}.jpg", AssetType.IMAGE) for number in range(2))


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([[]], []),
        ([[], [FIRST], [SECOND]], [FIRST, SECOND]),
        ([[FIRST], [], [SECOND]], [FIRST, SECOND]),
        ([[], []], []),
        ([[FIRST, SECOND], []], [FIRST, SECOND]),
    ],
    ids=["nothing", "first page empty", "page between empty", "all empty", "last page empty"],
)
def test_empty_pages_leave_no_separator(pages: list[list[Asset]], found: list[Asset]) -> None:
    async def iter_folder(owner_id: UUID, path: str) -> AsyncIterator[list[Asset]]:
        for page in pages:
            yield page

    async def get_failure_reasons(asset_ids: object) -> dict[UUID, str]:
        return {}

    async def read() -> bytes:
        catalog = SimpleNamespace(
            folders=SimpleNamespace(iter_folder=iter_folder),
            renditions=SimpleNamespace(get_failure_reasons=get_failure_reasons),
        )
        services, caller = SimpleNamespace(catalog=catalog), SimpleNamespace(user=SimpleNamespace(id=uuid4()))
        answer = await get_folder("/media", cast("Identity", caller), cast("Services", services))
        return b"".join([cast("bytes", piece) async for piece in answer.body_iterator])

    listed: list[dict[str, Any]] = json.loads(asyncio.run(read()))
    assert [each["id"] for each in listed] == [str(each.id) for each in found]
