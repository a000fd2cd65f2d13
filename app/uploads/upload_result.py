"""`UploadResult`: the outcome of a complete upload, the same for every way in."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from app.catalog.assets.duplicate_uploads import DuplicateAddition


@dataclass(frozen=True, slots=True)
class UploadResult:
    """`created` is False for a duplicate; `asset_id` is then that of the existing asset, and `added` is what this upload
    added to it."""

    created: bool
    asset_id: UUID
    added: tuple[DuplicateAddition, ...] = ()
