"""Records of upload sessions, as the catalogue returns them."""

from __future__ import annotations

from enum import StrEnum


class UploadState(StrEnum):
    """`created`: no byte is durable yet. `receiving`: some are. `complete`: the asset exists, and the row keeps the answer. The others
    have ended without an asset: refused at completion, not continued in time, or given up by the client."""

    CREATED = "created"
    RECEIVING = "receiving"
    COMPLETE = "complete"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
