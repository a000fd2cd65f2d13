"""`UploadSessions`: creates, continues, completes and cancels resumable uploads. The one entrance for all protocols."""

from __future__ import annotations

from uuid import UUID

from app.uploads.body_stream import Receive
from app.uploads.sessions.session_values import NewUpload, UploadCaller, UploadChunk, UploadStatus


class UploadSessions:
    """All methods raise `UploadError`s, `CatalogError`s and `StorageError`s only."""

    async def create(self, caller: UploadCaller, new: NewUpload) -> UploadStatus:
        """Begin a session, of which nothing is stored yet but its row.

        Size, type, fields, quota and declared checksum are checked as for a plain upload. A declared SHA-1 that the user has already
        gives a session that is complete at once. Raises `TooManyUploads` too.
        """
        raise NotImplementedError

    async def append(self, caller: UploadCaller, upload_id: UUID, chunk: UploadChunk, receive: Receive) -> UploadStatus:
        """Take the session over, append the request's body, and complete the upload if these were its last bytes.

        What arrived before the connection broke is kept, but not where the chunk has a digest. Raises `UploadNotFound`, `UploadGone`,
        `OffsetMismatch`, `InconsistentLength`, `ChunkDigestMismatch`, `UploadTakenOver`, `UploadBusy`, `UploadForbidden` too. A
        request at the offset of a complete upload gives the upload's answer again.
        """
        raise NotImplementedError

    async def get_status(self, caller: UploadCaller, upload_id: UUID) -> UploadStatus:
        """Take the session over, so that its offset is the one at which the next request continues. Completes an upload all of whose
        bytes are there. Raises `UploadNotFound`, `UploadGone`, `UploadBusy`."""
        raise NotImplementedError

    async def cancel(self, caller: UploadCaller, upload_id: UUID) -> None:
        """End the session and delete what is stored of it. Raises `UploadNotFound`; `UploadGone` where it has ended already."""
        raise NotImplementedError
