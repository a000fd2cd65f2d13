"""Logins at Immich in our catalogue: each look replaces them all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from app.catalog.accounts.immich_sessions import RENEW_AFTER
from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.schema.import_records import ImportedSession
from tests.catalog.imports.batches import Source


def _log_in(user_id: UUID, *, hours: int = 24) -> ImportedSession:
    session_id = uuid4()
    return ImportedSession(
        session_id, user_id, hashlib.sha256(session_id.bytes).digest(), now() + timedelta(hours=hours), now(), "iOS"
    )


async def test_each_look_replaces_them(catalog: Catalog, source: Source) -> None:
    kept, gone, other = (_log_in(source.owner_id) for _ in range(3))
    await catalog.immich_sessions.replace_all([kept, gone])
    exchanged = replace(kept, token_hash=gone.token_hash)
    await catalog.immich_sessions.replace_all([exchanged, other])
    moment = now()
    assert await catalog.immich_sessions.get_by_hash(kept.token_hash, moment) is None
    found = await catalog.immich_sessions.get_by_hash(gone.token_hash, moment)
    assert found is not None
    session, user = found
    assert (session.id, session.is_foreign, session.device_type, user.id) == (kept.id, True, "iOS", source.owner_id)
    assert {each.id for each in await catalog.immich_sessions.list(source.owner_id, moment)} == {kept.id, other.id}
    await catalog.immich_sessions.replace_all([])
    assert await catalog.immich_sessions.delete_all() == 0


async def test_an_earlier_end_is_stored_at_once_and_a_later_one_now_and_then(catalog: Catalog, source: Source) -> None:
    session = _log_in(source.owner_id)
    await catalog.immich_sessions.replace_all([session])
    for later, is_stored in (
        (-timedelta(seconds=1), True),
        (RENEW_AFTER - timedelta(minutes=1), False),
        (RENEW_AFTER, True),
    ):
        before = (await catalog.immich_sessions.list(source.owner_id, now()))[0].expires_at
        await catalog.immich_sessions.replace_all([replace(session, expires_at=before + later)])
        after = (await catalog.immich_sessions.list(source.owner_id, now()))[0].expires_at
        assert after - before == (later if is_stored else timedelta(0))


async def test_expired_ones_are_not_found_and_are_deleted(catalog: Catalog, source: Source) -> None:
    session = _log_in(source.owner_id, hours=1)
    await catalog.immich_sessions.replace_all([session, _log_in(source.owner_id)])
    assert await catalog.immich_sessions.get_by_hash(session.token_hash, session.expires_at) is None
    assert await catalog.immich_sessions.delete_expired(session.expires_at) == 1
    assert len(await catalog.immich_sessions.list(source.owner_id, now())) == 1


async def test_they_end_with_the_account_at_immich(catalog: Catalog, source: Source) -> None:
    await catalog.immich_sessions.replace_all([_log_in(source.owner_id)])
    await catalog.imported_accounts.close_accounts([source.owner_id])
    assert await catalog.immich_sessions.list(source.owner_id, now()) == []


async def test_they_end_with_a_removal_of_the_user(catalog: Catalog, source: Source) -> None:
    await catalog.immich_sessions.replace_all([_log_in(source.owner_id)])
    await catalog.user_removal.mark(source.owner_id)
    assert await catalog.immich_sessions.list(source.owner_id, now()) == []
