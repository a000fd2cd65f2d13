"""Plans archives from a selection of assets: splits it by size, builds manifests, and makes byte sources from them.

Reads the catalogue only; opens no file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.archives.errors import NotArchivable
from app.archives.manifest import Manifest, ManifestEntry
from app.archives.member_names import assign_member_names, clean_member_name
from app.archives.read_ahead import ReadAheadBudget
from app.archives.split import PlannedArchive, split_by_size
from app.archives.stream import ArchiveSource, LostMemberCounter
from app.archives.zip_layout import ZipLayout
from app.catalog.catalog import Catalog
from app.catalog.downloads.download_parts import MemberNames, compute_part_digest
from app.catalog.errors import NotFound
from app.catalog.schema.records import Asset, FileKind, Visibility
from app.storage.service import StorageService

PLANNED_NAMES_LIFETIME = timedelta(days=1)
"""How long the member names that `plan_archives` assigned are kept for the requests of those archives."""


class ArchivePlanner:
    """Plans archives and builds their `ArchiveSource`s. All of these share one `ReadAheadBudget`."""

    def __init__(self, catalog: Catalog, storage: StorageService, read_ahead: ReadAheadBudget | None = None) -> None:
        self._catalog = catalog
        self._storage = storage
        self._read_ahead = read_ahead or ReadAheadBudget()
        self.lost_members = LostMemberCounter()

    async def plan_archives(
        self, owner_id: UUID, asset_ids: Iterable[UUID] | None, limit: int, *, with_locked: bool = True
    ) -> list[PlannedArchive]:
        """Split a selection into archives of at most `limit` bytes. Motion parts of live photos are added.

        `asset_ids` None: all assets of the owner except those in the trash, hidden or locked. `with_locked` false: a locked one is as one
        that is not there. Raises `NotFound`, `NotArchivable`.
        """
        if asset_ids is None:
            assets = await self._catalog.assets.get_all_visible(owner_id)
            await self._require_mounted(assets)
        else:
            assets = await self._load_assets(owner_id, asset_ids, with_locked=with_locked)
        groups = await self._add_motion_parts(owner_id, assets, with_locked=with_locked)
        sized = ([(asset.id, _original_size(asset)) for asset in group] for group in groups)
        parts = await asyncio.to_thread(lambda: list(split_by_size(sized, limit)))
        if len(parts) > 1 or await self._load_planned_names(owner_id, parts[0].asset_ids if parts else []):
            # Names must be unique across all parts: users unpack them into one folder.
            names = await asyncio.to_thread(
                _assign_planned_names, parts, [asset for group in groups for asset in group]
            )
            await self._catalog.download_parts.store_parts(owner_id, names, datetime.now(UTC) + PLANNED_NAMES_LIFETIME)
        return parts

    async def build_manifest(self, owner_id: UUID, asset_ids: Iterable[UUID], *, with_locked: bool = True) -> Manifest:
        """The manifest of an archive of these assets, in this order. Uses the names that `plan_archives` assigned, if these assets are one
        of its archives. `with_locked` as there. Raises `NotFound`, `NotArchivable`."""
        assets = await self._load_assets(owner_id, asset_ids, with_locked=with_locked)
        names = await self._load_planned_names(owner_id, [asset.id for asset in assets])
        return await asyncio.to_thread(_freeze_manifest, assets, names)

    async def _load_planned_names(self, owner_id: UUID, asset_ids: Sequence[UUID]) -> MemberNames:
        digest = await asyncio.to_thread(compute_part_digest, asset_ids)
        return await self._catalog.download_parts.get_names(owner_id, digest, datetime.now(UTC))

    async def build_source(self, manifest: Manifest, filename: str, created_at: datetime) -> ArchiveSource:
        """The byte source of the manifest's archive. Computes the layout in a thread."""
        layout = await asyncio.to_thread(_build_layout, manifest)
        return ArchiveSource(
            layout=layout,
            manifest=manifest,
            file_lookup=self._catalog.assets,
            crc32_store=self._catalog.files,
            storage=self._storage,
            read_ahead=self._read_ahead,
            lost_members=self.lost_members,
            filename=filename,
            last_modified=created_at,
            outages=self._catalog.outages,
        )

    async def _load_assets(self, owner_id: UUID, asset_ids: Iterable[UUID], *, with_locked: bool) -> list[Asset]:
        unique_ids = list(dict.fromkeys(asset_ids))
        owned = await self._catalog.assets.get_many_owned(owner_id, unique_ids)
        shown = {each.id for each in _list_shown(owned.values(), with_locked=with_locked)}
        missing = [asset_id for asset_id in unique_ids if asset_id not in shown]
        if missing:
            raise NotFound("asset", missing)
        assets = [_require_archivable(owned[asset_id]) for asset_id in unique_ids]
        await self._require_mounted(assets)
        return assets

    async def _require_mounted(self, assets: Sequence[Asset]) -> None:
        if not any(asset.library_id for asset in assets):
            return
        unmounted = await self._catalog.libraries.get_unmounted()
        for asset in assets:
            library = unmounted.get(asset.library_id) if asset.library_id else None
            if library is not None:
                reason = f"is offline: the library {library.name!r} is not mounted"
                raise NotArchivable(asset.id, asset.original_file_name, reason)

    async def _add_motion_parts(
        self, owner_id: UUID, assets: Sequence[Asset], *, with_locked: bool
    ) -> list[list[Asset]]:
        """One group for each asset: the asset, and for a live photo its motion part if that is archivable."""
        motion_ids = [asset.live_photo_video_id for asset in assets if asset.live_photo_video_id]
        owned = await self._catalog.assets.get_many_owned(owner_id, motion_ids)
        motion_parts = {each.id: each for each in _list_shown(owned.values(), with_locked=with_locked)}
        groups: list[list[Asset]] = []
        for asset in assets:
            motion_part = motion_parts.get(asset.live_photo_video_id) if asset.live_photo_video_id else None
            groups.append(
                [asset] if motion_part is None or _not_archivable_reason(motion_part) else [asset, motion_part]
            )
        return groups


def _list_shown(assets: Iterable[Asset], *, with_locked: bool) -> list[Asset]:
    return [asset for asset in assets if with_locked or asset.visibility is not Visibility.LOCKED]


def _build_layout(manifest: Manifest) -> ZipLayout:
    _ = manifest.etag  # computed and cached here, in the thread: the first use would hash on the event loop
    return ZipLayout([entry.to_zip_entry() for entry in manifest.entries])


def _assign_planned_names(parts: Sequence[PlannedArchive], assets: Sequence[Asset]) -> dict[bytes, MemberNames]:
    """By the digest of each part: the names that differ from the asset's own name, because that is taken in another place."""
    own_names = {asset.id: asset.original_file_name for asset in assets}
    in_order = [asset_id for part in parts for asset_id in part.asset_ids]
    names = dict(zip(in_order, assign_member_names(own_names[asset_id] for asset_id in in_order), strict=True))
    renamed = {asset_id: name for asset_id, name in names.items() if name != clean_member_name(own_names[asset_id])}
    return {
        compute_part_digest(part.asset_ids): {
            asset_id: renamed[asset_id] for asset_id in part.asset_ids if asset_id in renamed
        }
        for part in parts
    }


def _freeze_manifest(assets: Sequence[Asset], planned: MemberNames) -> Manifest:
    names = assign_member_names(planned.get(asset.id, asset.original_file_name) for asset in assets)
    return Manifest(
        tuple(
            ManifestEntry(
                asset_id=asset.id,
                kind=FileKind.ORIGINAL,
                name=name,
                size=_original_size(asset),
                crc32=asset.file.crc32 if asset.file.size else 0,  # the CRC-32 of an empty file is 0
                modified=asset.file_modified_at,
                checksum=asset.file.sha1,
            )
            for asset, name in zip(assets, names, strict=True)
        )
    )


def _require_archivable(asset: Asset) -> Asset:
    reason = _not_archivable_reason(asset)
    if reason is not None:
        raise NotArchivable(asset.id, asset.original_file_name, reason)
    return asset


def _not_archivable_reason(asset: Asset) -> str | None:
    if asset.deleted_at is not None:
        return "is in the trash"
    if asset.is_offline:
        return "is offline"
    if asset.file.size is None:
        return "has no stored file"
    return None


def _original_size(asset: Asset) -> int:
    return asset.file.size or 0
