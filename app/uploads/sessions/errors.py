"""The errors of resumable uploads. Beside these the errors of plain uploads are raised, and those of catalogue and storage.

The texts are for the user who uploads; each protocol has a table of their statuses.
"""

from __future__ import annotations

from uuid import UUID

from app.catalog.schema.upload_records import UploadState
from app.uploads.errors import UploadError


class UploadNotFound(UploadError):
    """There is no such upload, or it is another user's."""

    def __init__(self, upload_id: UUID) -> None:
        self.upload_id = upload_id
        super().__init__("There is no such upload")


class UploadGone(UploadError):
    """The upload has ended without an asset. `reason`: why it failed, for the user; empty where the state tells."""

    def __init__(self, state: UploadState, reason: str = "") -> None:
        self.state = state
        self.reason = reason
        super().__init__(f"The upload is {state}{f': {reason}' if reason else ''}")


class OffsetMismatch(UploadError):
    """The request's offset is not the upload's. Both in bytes."""

    def __init__(self, expected: int, provided: int) -> None:
        self.expected = expected
        self.provided = provided
        super().__init__(f"The upload continues at byte {expected}, not at {provided}")


class InconsistentLength(UploadError):
    """The upload's length was told before and was another one, or the bytes and the length do not agree. `expected` and `provided` in
    bytes."""

    def __init__(self, expected: int | None, provided: int | None) -> None:
        self.expected = expected
        self.provided = provided
        super().__init__(f"The upload's length is {expected}, not {provided}")


class ChunkDigestMismatch(UploadError):
    """The bytes of the request do not match its digest: none of them was appended."""

    def __init__(self) -> None:
        super().__init__("The bytes do not match their checksum; nothing was appended")


class UploadTakenOver(UploadError):
    """A newer request has taken the upload over, or ended it; this one acknowledges nothing more."""

    def __init__(self) -> None:
        super().__init__("Another request has taken the upload over")


class TooManyUploads(UploadError):
    """The user has as many unfinished uploads as are allowed; try again in `retry_after` seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(f"There are {limit} unfinished uploads already")


class UploadForbidden(UploadError):
    """The key or login that the upload was continued with was revoked, or has lost its permission, before the last byte."""

    def __init__(self, permission: str) -> None:
        self.permission = permission
        super().__init__(f"The credential of the upload is no longer valid for {permission}")
