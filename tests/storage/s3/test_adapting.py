"""Which fields of a request are found out to be refused, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from app.storage.errors import ObjectExists, StorageUnavailable
from app.storage.s3.adapting import Option, send_adapted
from app.storage.s3.capabilities import Capabilities, Feature
from app.storage.s3.errors import S3Refusal

OPTIONS = [
    Option(Feature.FULL_OBJECT_CHECKSUM, {"type": "FULL_OBJECT"}, requires=Feature.MULTIPART_CHECKSUM),
    Option(Feature.MULTIPART_CHECKSUM, {"algorithm": "CRC32"}),
    Option(Feature.COMPLETE_CHECKSUM, {"parts": "checked"}),
]


class Store:
    """Refuses requests that have one of these fields."""

    def __init__(self, *refused: str, error: Exception | None = None) -> None:
        self.refused = refused
        self.error = error or S3Refusal("a", "s3", "InvalidRequest")
        self.asked: list[set[str]] = []

    async def take(self, fields: dict[str, Any]) -> str:
        self.asked.append(set(fields))
        if any(name in fields for name in self.refused):
            raise self.error
        return "taken"


@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        ((), set()),
        (("type",), {Feature.FULL_OBJECT_CHECKSUM}),
        (("algorithm",), {Feature.FULL_OBJECT_CHECKSUM, Feature.MULTIPART_CHECKSUM}),
        (("parts",), {Feature.COMPLETE_CHECKSUM}),
        (
            ("algorithm", "parts"),
            {Feature.FULL_OBJECT_CHECKSUM, Feature.MULTIPART_CHECKSUM, Feature.COMPLETE_CHECKSUM},
        ),
    ],
)
async def test_the_fields_that_a_store_refuses_are_left_out_from_then_on(
    refused: tuple[str, ...], missing: set[Feature]
) -> None:
    store, capabilities = Store(*refused), Capabilities()
    assert await send_adapted(capabilities, OPTIONS, store.take) == "taken"
    assert set(capabilities.missing) == missing
    found_out = len(store.asked)
    assert await send_adapted(capabilities, OPTIONS, store.take) == "taken"
    assert len(store.asked) == found_out + 1


async def test_a_refusal_of_the_plain_request_is_raised_and_teaches_nothing() -> None:
    async def refuse(_fields: dict[str, Any]) -> None:
        raise S3Refusal("a", "s3", "InvalidRequest")

    capabilities = Capabilities()
    with pytest.raises(S3Refusal):
        await send_adapted(capabilities, OPTIONS, refuse)
    assert not capabilities.missing


async def test_an_error_that_is_no_refusal_is_raised_at_once() -> None:
    store, capabilities = Store("type", error=StorageUnavailable("a", "s3", "BadDigest")), Capabilities()
    with pytest.raises(StorageUnavailable):
        await send_adapted(capabilities, OPTIONS, store.take)
    assert len(store.asked) == 1
    assert not capabilities.missing


async def test_before_a_condition_is_left_out_it_is_checked_otherwise() -> None:
    async def taken() -> None:
        raise ObjectExists("a", "s3")

    store = Store("condition")
    option = Option(Feature.CONDITIONAL_PUT, {"condition": "*"}, otherwise=taken)
    for capabilities in (Capabilities(), Capabilities({Feature.CONDITIONAL_PUT})):
        with pytest.raises(ObjectExists):
            await send_adapted(capabilities, [option], store.take)
    assert store.asked == [{"condition"}] * 2


async def test_a_refusal_that_passes_costs_no_feature() -> None:
    store, capabilities = Store("type"), Capabilities()

    async def refuse_once(fields: dict[str, Any]) -> str:
        try:
            return await store.take(fields)
        finally:
            store.refused = ()

    assert await send_adapted(capabilities, OPTIONS, refuse_once) == "taken"
    assert not capabilities.missing
    assert store.asked == [{"type", "algorithm", "parts"}] * 2
