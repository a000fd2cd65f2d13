"""Takes over logins at Immich, where `MEDIAVAULT_IMMICH_SESSIONS` says so: their tokens' hashes, which are computed as ours are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.schema.import_records import ImportedSession
from app.immich.problems import ProblemKind, ProblemLog
from app.immich.source.reader import SourceReader
from app.immich.source.records import SourceDate, SourceSession

LIFETIME = timedelta(days=2)
"""A session is accepted for so long after the last look that saw it: nobody tells of its end when nobody looks."""


async def import_sessions(
    catalog: Catalog, reader: SourceReader, owners: Sequence[UUID], problems: ProblemLog, *, accept: bool
) -> int:
    """From now on the sessions of `owners` are those that Immich has, or none, without `accept`. Deleted users have none. Returns how many
    there are. Raises `SourceUnavailable`, `CatalogError`."""
    found = await reader.list_sessions() if accept else []
    if found is None:
        problems.add(ProblemKind.MISSING_COLUMN, "session.token")
        found = []
    users = set(owners) - {user.id for user in await reader.list_users() if user.deleted_at is not None}
    moment = now()
    sessions: dict[bytes, ImportedSession] = {}
    for session in found:
        imported = _translate(session, moment) if session.user_id in users else None
        if imported is not None:
            sessions.setdefault(imported.token_hash, imported)
    await catalog.immich_sessions.replace_all(list(sessions.values()))
    return len(sessions)


def _translate(session: SourceSession, moment: datetime) -> ImportedSession | None:
    """None for an expired session, and for one that has no usable hash or end."""
    expires_at = _find_end(session.expires_at, moment)
    if session.token_hash is None or expires_at is None or expires_at <= moment:
        return None
    created_at = session.created_at if isinstance(session.created_at, datetime) else moment
    return ImportedSession(session.id, session.user_id, session.token_hash, expires_at, created_at, session.device_type)


def _find_end(expires_at: SourceDate, moment: datetime) -> datetime | None:
    if expires_at is None:
        return moment + LIFETIME
    if not isinstance(expires_at, datetime):
        return None
    return min(expires_at.astimezone(UTC), moment + LIFETIME)
