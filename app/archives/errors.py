"""What can go wrong with archives, as types."""

from __future__ import annotations

from uuid import UUID


class ManifestUnreadable(Exception):
    """The stored manifest is damaged, or of a layout that this program does not make."""


class NotArchivable(Exception):
    """An asset cannot be part of an archive; the text names it and says why. Nothing was planned."""

    def __init__(self, asset_id: UUID, name: str, reason: str) -> None:
        self.asset_id = asset_id
        super().__init__(f"asset {asset_id} ({name}) {reason}")


class MemberLost(Exception):
    """A member is gone, or is not what it was when the archive was planned."""

    def __init__(self, asset_id: UUID, name: str, reason: str) -> None:
        self.asset_id = asset_id
        super().__init__(f"{name} (asset {asset_id}) {reason}")
