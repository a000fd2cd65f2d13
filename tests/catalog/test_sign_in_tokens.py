"""Tokens of sign-in addresses: redeemed once, and no longer than they last."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from app.catalog.backup.stale_rows import drop_restored_rows
from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.errors import NotFound
from tests.catalog.rows import make_user

SOON = timedelta(minutes=10)


async def test_of_several_at_once_one_redeems_it(catalog: Catalog) -> None:
    user = await make_user(catalog)
    await catalog.sign_in_tokens.create(user.id, b"hash", now() + SOON)

    redeemed = await asyncio.gather(*(catalog.sign_in_tokens.redeem(b"hash", now()) for _ in range(5)))

    assert sorted(redeemed, key=lambda found: found is None) == [user, None, None, None, None]


async def test_a_token_lasts_until_it_expires_or_is_replaced(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    moment = now()
    for each, token_hash in ((user, b"first"), (user, b"second"), (other, b"other")):
        await catalog.sign_in_tokens.create(each.id, token_hash, moment + SOON)

    assert await catalog.sign_in_tokens.redeem(b"first", moment) is None
    assert await catalog.sign_in_tokens.redeem(b"second", moment + SOON) is None
    assert await catalog.sign_in_tokens.delete_expired(moment + SOON - timedelta(seconds=1)) == 0
    assert await catalog.sign_in_tokens.redeem(b"second", moment) == user
    assert await catalog.sign_in_tokens.delete_expired(moment + SOON) == 1
    assert await catalog.sign_in_tokens.redeem(b"other", moment) is None


async def test_there_is_none_for_nobody(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        await catalog.sign_in_tokens.create(uuid4(), b"hash", now() + SOON)


async def test_a_restored_backup_brings_none_back(catalog: Catalog) -> None:
    user = await make_user(catalog)
    await catalog.sign_in_tokens.create(user.id, b"hash", now() + SOON)

    async with catalog.database.write() as connection:
        await drop_restored_rows(connection)

    assert await catalog.sign_in_tokens.redeem(b"hash", now()) is None


async def test_a_session_of_a_key_ends_with_the_key(catalog: Catalog) -> None:
    user = await make_user(catalog)
    key = await catalog.api_keys.create(user.id, "phone", ["asset.read"], b"key")
    await catalog.sessions.create(user.id, b"of the key", now() + SOON, key.id)
    await catalog.sessions.create(user.id, b"of its own", now() + SOON)

    await catalog.api_keys.delete(user.id, key.id)

    assert await catalog.sessions.get_by_hash(b"of the key", now()) is None
    assert await catalog.sessions.get_by_hash(b"of its own", now()) is not None
    with pytest.raises(NotFound):
        await catalog.sessions.create(user.id, b"late", now() + SOON, key.id)
