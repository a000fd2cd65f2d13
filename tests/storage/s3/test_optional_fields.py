"""`send_supported_fields`: which fields are detected as refused, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from app.storage.errors import ObjectExists, StorageUnavailable
from app.storage.s3.protocol.capabilities import S3Feature, StoreCapabilities
from app.storage.s3.protocol.errors import S3RequestRefused
from app.storage.s3.protocol.optional_fields import OptionalFields, send_supported_fields

OPTIONS = [
    OptionalFields(S3Feature.FULL_OBJECT_CHECKSUM, {"type": "FULL_OBJECT"}, requires=S3Feature.MULTIPART_CHECKSUM),
    OptionalFields(S3Feature.MULTIPART_CHECKSUM, {"algorithm": "CRC32"}),
    OptionalFields(S3Feature.COMPLETE_CHECKSUM, {"parts": "checked"}),
]


class Store:
    """A store that refuses requests with one of the given fields."""

    def __init__(self, *refused: str, error: Exception | None = None) -> None:
        self.refused = refused
        self.error = error or S3RequestRefused("a", "s3", "InvalidRequest")
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
        (("type",), {S3Feature.FULL_OBJECT_CHECKSUM}),
        (("algorithm",), {S3Feature.FULL_OBJECT_CHECKSUM, S3Feature.MULTIPART_CHECKSUM}),
        (("parts",), {S3Feature.COMPLETE_CHECKSUM}),
        (
            ("algorithm", "parts"),
            {S3Feature.FULL_OBJECT_CHECKSUM, S3Feature.MULTIPART_CHECKSUM, S3Feature.COMPLETE_CHECKSUM},
        ),
    ],
)
async def test_the_fields_that_a_store_refuses_are_left_out_from_then_on(
    refused: tuple[str, ...], missing: set[S3Feature]
) -> None:
    store, capabilities = Store(*refused), StoreCapabilities()
    assert await send_supported_fields(capabilities, OPTIONS, store.take) == "taken"
    assert set(capabilities.missing) == missing
    found_out = len(store.asked)
    assert await send_supported_fields(capabilities, OPTIONS, store.take) == "taken"
    assert len(store.asked) == found_out + 1


async def test_a_refusal_of_the_plain_request_is_raised_and_teaches_nothing() -> None:
    async def refuse(_fields: dict[str, Any]) -> None:
        raise S3RequestRefused("a", "s3", "InvalidRequest")

    capabilities = StoreCapabilities()
    with pytest.raises(S3RequestRefused):
        await send_supported_fields(capabilities, OPTIONS, refuse)
    assert not capabilities.missing


async def test_an_error_that_is_no_refusal_is_raised_at_once() -> None:
    store, capabilities = Store("type", error=StorageUnavailable("a", "s3", "BadDigest")), StoreCapabilities()
    with pytest.raises(StorageUnavailable):
        await send_supported_fields(capabilities, OPTIONS, store.take)
    assert len(store.asked) == 1
    assert not capabilities.missing


async def test_before_a_condition_is_left_out_it_is_checked_otherwise() -> None:
    async def taken() -> None:
        raise ObjectExists("a", "s3")

    store = Store("condition")
    option = OptionalFields(S3Feature.CONDITIONAL_PUT, {"condition": "*"}, before_omitting=taken)
    for capabilities in (StoreCapabilities(), StoreCapabilities({S3Feature.CONDITIONAL_PUT})):
        with pytest.raises(ObjectExists):
            await send_supported_fields(capabilities, [option], store.take)
    assert store.asked == [{"condition"}] * 2


async def test_a_refusal_that_passes_costs_no_feature() -> None:
    store, capabilities = Store("type"), StoreCapabilities()

    async def refuse_once(fields: dict[str, Any]) -> str:
        try:
            return await store.take(fields)
        finally:
            store.refused = ()

    assert await send_supported_fields(capabilities, OPTIONS, refuse_once) == "taken"
    assert not capabilities.missing
    assert store.asked == [{"type", "algorithm", "parts"}] * 2
