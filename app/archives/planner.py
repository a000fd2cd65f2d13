"""From a selection of assets to an archive that can be sent: asks the catalogue only, never an object."""

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
from app.catalog.schema.records import Asset, FileKind
from app.storage.service import StorageService

PLANNED_NAMES_LIFETIME = timedelta(days=1)
"""How long after they were planned the archives of one download may be asked for."""


class ArchivePlanner:
    """Plans archives, and makes plans into byte sources."""

    def __init__(self, catalog: Catalog, storage: StorageService, read_ahead: ReadAheadBudget | None = None) -> None:
        self._catalog = catalog
        self._storage = storage
        self._read_ahead = read_ahead or ReadAheadBudget()
        self.lost_members = LostMemberCounter()

    async def plan_archives(self, owner_id: UUID, asset_ids: Iterable[UUID] | None, limit: int) -> list[PlannedArchive]:
        """The selection (None: everything of the owner but the trash and what is hidden or locked) as archives of at most `limit` bytes.
        Raises `NotFound`, `NotArchivable`."""
        if asset_ids is None:
            chosen = await self._catalog.assets.get_all_visible(owner_id)
            await self._require_mounted(chosen)
        else:
            chosen = await self._load_assets(owner_id, asset_ids)
        groups = await self._add_motion_parts(owner_id, chosen)
        sized = ([(asset.id, _original_size(asset)) for asset in group] for group in groups)
        parts = await asyncio.to_thread(lambda: list(split_by_size(sized, limit)))
        if len(parts) > 1 or await self._load_planned_names(owner_id, parts[0].asset_ids if parts else []):
            # Whoever unpacks all of them does so in one folder.
            names = await asyncio.to_thread(
                _assign_planned_names, parts, [asset for group in groups for asset in group]
            )
            await self._catalog.download_parts.store_parts(owner_id, names, datetime.now(UTC) + PLANNED_NAMES_LIFETIME)
        return parts

    async def build_manifest(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> Manifest:
        """What an archive of these assets, in this order, holds; with the names that were planned for it where it is one of `plan_archives`. Raises
        `NotFound`, `NotArchivable`."""
        assets = await self._load_assets(owner_id, asset_ids)
        names = await self._load_planned_names(owner_id, [asset.id for asset in assets])
        return await asyncio.to_thread(_freeze_manifest, assets, names)

    async def _load_planned_names(self, owner_id: UUID, asset_ids: Sequence[UUID]) -> MemberNames:
        digest = await asyncio.to_thread(compute_part_digest, asset_ids)
        return await self._catalog.download_parts.get_names(owner_id, digest, datetime.now(UTC))

    async def build_source(self, manifest: Manifest, filename: str, created_at: datetime) -> ArchiveSource:
        """The archive's bytes, laid out off the event loop."""
        plan = await asyncio.to_thread(_lay_out, manifest)
        return ArchiveSource(
            layout=plan,
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

    async def _load_assets(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> list[Asset]:
        wanted = list(dict.fromkeys(asset_ids))
        known = await self._catalog.assets.get_many_owned(owner_id, wanted)
        missing = [asset_id for asset_id in wanted if asset_id not in known]
        if missing:
            raise NotFound("asset", missing)
        chosen = [_require_archivable(known[asset_id]) for asset_id in wanted]
        await self._require_mounted(chosen)
        return chosen

    async def _require_mounted(self, assets: Sequence[Asset]) -> None:
        if not any(asset.library_id for asset in assets):
            return
        away = await self._catalog.libraries.get_unmounted()
        for asset in assets:
            library = away.get(asset.library_id) if asset.library_id else None
            if library is not None:
                reason = f"is offline: the library {library.name!r} is not mounted"
                raise NotArchivable(asset.id, asset.original_file_name, reason)

    async def _add_motion_parts(self, owner_id: UUID, assets: Sequence[Asset]) -> list[list[Asset]]:
        """Each asset, with the motion part of a live photo beside it."""
        motion_ids = [asset.live_photo_video_id for asset in assets if asset.live_photo_video_id]
        motion = await self._catalog.assets.get_many_owned(owner_id, motion_ids)
        groups: list[list[Asset]] = []
        for asset in assets:
            part = motion.get(asset.live_photo_video_id) if asset.live_photo_video_id else None
            groups.append([asset] if part is None or _not_archivable_reason(part) else [asset, part])
        return groups


def _lay_out(manifest: Manifest) -> ZipLayout:
    _ = manifest.etag  # hashed here, and not on the loop when it is first asked for
    return ZipLayout([entry.to_zip_entry() for entry in manifest.entries])


def _assign_planned_names(parts: Sequence[PlannedArchive], assets: Sequence[Asset]) -> dict[bytes, MemberNames]:
    """What is not called by its own name, in each part by its digest."""
    own = {asset.id: asset.original_file_name for asset in assets}
    in_order = [asset_id for part in parts for asset_id in part.asset_ids]
    names = dict(zip(in_order, assign_member_names(own[asset_id] for asset_id in in_order), strict=True))
    renamed = {asset_id: name for asset_id, name in names.items() if name != clean_member_name(own[asset_id])}
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
                crc32=asset.file.crc32 if asset.file.size else 0,  # of nothing it is known
                modified=asset.file_modified_at,
                checksum=asset.file.sha1,
            )
            for asset, name in zip(assets, names, strict=True)
        )
    )


def _require_archivable(asset: Asset) -> Asset:
    fault = _not_archivable_reason(asset)
    if fault is not None:
        raise NotArchivable(asset.id, asset.original_file_name, fault)
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
