"""Changes of table `upload` that belong to transactions of other tables. Statements that run in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, case, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import now
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema import tables
from app.catalog.schema.upload_records import OPEN_UPLOAD_STATES, Upload, UploadState

SESSION_LEASE_END = datetime(9000, 1, 1, tzinfo=UTC)
"""The end of the lease of a session's file: the session ends it, never the clock."""

_upload = tables.upload


def owns_generation(upload_id: UUID | BindParameter[Any], generation: int | BindParameter[Any]) -> ColumnElement[bool]:
    """Whether the session has not ended, and no newer request has taken it over."""
    is_open = _upload.c.state.in_(OPEN_UPLOAD_STATES)
    return (_upload.c.id == upload_id) & (_upload.c.generation == generation) & is_open


@dataclass(frozen=True, slots=True)
class UploadCompletion:
    """The upload that is completed. Its answer is kept until `expires_at`."""

    upload: Upload
    expires_at: datetime


async def complete_upload(
    connection: AsyncConnection,
    completion: UploadCompletion,
    asset_id: UUID,
    *,
    created: bool,
    added: Sequence[str] = (),
) -> bool:
    """Keep the final answer. Returns False when a newer request has the session, or it has ended.

    Call it before the quota is charged: it ends the session's reservation. The storage is due to be cleared where the
    file is not used, and later where an older writer may still write.
    """
    upload, moment = completion.upload, now()
    values: dict[str, Any] = {
        "state": UploadState.COMPLETE,
        "result_asset_id": asset_id,
        "result_created": created,
        "result_added": list(added),
        "fields": {},
        "writer": None,
        "head": None,
        "sha1_state": None,
        "updated_at": moment,
        "expires_at": completion.expires_at,
    }
    if upload.path is not None and not created:
        values["cleanup_at"] = moment
    elif upload.path is not None and upload.is_contested:
        values["cleanup_at"] = moment + LATE_WRITE_GRACE
    else:
        values |= {"path": None, "file_id": None, "storage_state": None}
    statement = update(_upload).where(owns_generation(upload.id, upload.generation))
    return (await connection.execute(statement.values(values))).rowcount == 1


async def end_uploads(
    connection: AsyncConnection,
    condition: ColumnElement[bool],
    state: UploadState,
    expires_at: datetime,
    failure: str | None = None,
) -> int:
    """End sessions without an asset; their answer is kept until `expires_at`. Their generation is raised, so that no writer goes
    on, and what they have stored is due to be cleared. Returns how many."""
    moment = now()
    values = {
        "state": state,
        "failure": failure,
        "raw_metadata": "",
        "fields": {},
        "generation": _upload.c.generation + 1,
        "head": None,
        "updated_at": moment,
        "expires_at": expires_at,
        "cleanup_at": case((_upload.c.path.is_not(None), moment)),
    }
    statement = update(_upload).where(condition, _upload.c.state.in_(OPEN_UPLOAD_STATES))
    return (await connection.execute(statement.values(values))).rowcount
