"""Records of upload sessions, as the catalogue returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class UploadState(StrEnum):
    """`created`: no byte is durable yet. `receiving`: some are. `complete`: the asset exists, and the row keeps the answer. The others
    have ended without an asset: refused at completion, not continued in time, or given up by the client."""

    CREATED = "created"
    RECEIVING = "receiving"
    COMPLETE = "complete"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


OPEN_UPLOAD_STATES = (UploadState.CREATED, UploadState.RECEIVING)


@dataclass(frozen=True, slots=True)
class Upload:
    """One session. Its fields are the columns of table `upload`.

    `credential_id`, `permission`: of the last request that continued it. `offset`: durable bytes; `all_received`: the client has
    said that these are all. `fields`: form fields as text. `head`: the first bytes, until the storage has them. `path`, `file_id`: of the
    file, once its type is known; `storage_state` is the storage's own, and `sha1_state`, `crc32` are those of `offset` bytes.

    `generation`: of the request that may write; `writer`: the append that is not known to have ended. `is_contested`: an append was
    taken over from such a writer. `received_bytes`, `resumptions` count what clients sent, also what was discarded. `cleanup_at`: when
    the storage is to be cleared of what the session has left; None: nothing is left.
    """

    id: UUID
    owner_id: UUID
    credential_id: UUID | None
    permission: str
    protocol: str
    state: UploadState
    length: int | None
    offset: int
    all_received: bool
    raw_metadata: str
    fields: Mapping[str, str]
    filename: str
    declared_sha1: bytes | None
    head: bytes | None
    file_id: UUID | None
    path: str | None
    storage_state: str | None
    sha1_state: bytes | None
    crc32: int
    generation: int
    writer: UUID | None
    is_contested: bool
    received_bytes: int
    resumptions: int
    result_asset_id: UUID | None
    result_created: bool | None
    result_added: list[str] | None
    failure: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    cleanup_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_UPLOAD_STATES

    @property
    def reserved_bytes(self) -> int:
        """What the session reserves of its owner's quota."""
        return self.offset if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class UploadStatistics:
    """`unfinished` sessions with their `received` and `reserved` bytes; `by_state`: how many sessions are known in each state;
    `resumptions` of all of them."""

    unfinished: int
    received_bytes: int
    reserved_bytes: int
    resumptions: int
    by_state: Mapping[UploadState, int]
