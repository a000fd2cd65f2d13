"""Exceptions of archives; `app.api.errors` maps them to HTTP error responses."""

from __future__ import annotations

from uuid import UUID


class ManifestUnreadable(Exception):
    """The stored manifest is damaged, or has a layout version that this program does not support."""


class NotArchivable(Exception):
    """An asset cannot be part of an archive; the text names the asset and the reason. No archive was planned."""

    def __init__(self, asset_id: UUID, name: str, reason: str) -> None:
        self.asset_id = asset_id
        super().__init__(f"asset {asset_id} ({name}) {reason}")


class MemberLost(Exception):
    """A member's file was deleted or changed since the archive was planned."""

    def __init__(self, asset_id: UUID, name: str, reason: str) -> None:
        self.asset_id = asset_id
        super().__init__(f"{name} (asset {asset_id}) {reason}")
