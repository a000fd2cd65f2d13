"""From a selection of assets to an archive that can be sent: asks the catalogue only, never an object."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.archives.ahead import AheadBudget
from app.archives.errors import NotArchivable
from app.archives.manifest import Manifest, ManifestEntry
from app.archives.names import archive_names, cleaned
from app.archives.plan import Plan
from app.archives.split import Part, split
from app.archives.stream import ArchiveSource, Losses
from app.catalog.catalog import Catalog
from app.catalog.download_parts import Names, part_digest
from app.catalog.errors import NotFound
from app.catalog.records import Asset, FileKind
from app.storage.service import StorageService

NAMES_KEPT = timedelta(days=1)
"""How long after they were planned the archives of one download may be asked for."""


class Archiver:
    """Plans archives, and makes plans into byte sources."""

    def __init__(self, catalog: Catalog, storage: StorageService, ahead: AheadBudget | None = None) -> None:
        self._catalog = catalog
        self._storage = storage
        self._ahead = ahead or AheadBudget()
        self.losses = Losses()

    async def parts(self, owner_id: UUID, asset_ids: Iterable[UUID] | None, limit: int) -> list[Part]:
        """The selection (None: everything of the owner but the trash and what is hidden or locked) as archives of at most `limit` bytes.
        Raises `NotFound`, `NotArchivable`."""
        if asset_ids is None:
            chosen = await self._catalog.assets.everything(owner_id)
            await self._require_mounted(chosen)
        else:
            chosen = await self._chosen(owner_id, asset_ids)
        groups = await self._with_motion(owner_id, chosen)
        sized = ([(asset.id, _size(asset)) for asset in group] for group in groups)
        parts = await asyncio.to_thread(lambda: list(split(sized, limit)))
        if len(parts) > 1 or await self._planned_names(owner_id, parts[0].asset_ids if parts else []):
            # Whoever unpacks all of them does so in one folder.
            names = await asyncio.to_thread(_names_in_parts, parts, [asset for group in groups for asset in group])
            await self._catalog.download_parts.keep(owner_id, names, datetime.now(UTC) + NAMES_KEPT)
        return parts

    async def manifest(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> Manifest:
        """What an archive of these assets, in this order, holds; with the names that were planned for it where it is one of `parts`. Raises
        `NotFound`, `NotArchivable`."""
        assets = await self._chosen(owner_id, asset_ids)
        names = await self._planned_names(owner_id, [asset.id for asset in assets])
        return await asyncio.to_thread(_frozen, assets, names)

    async def _planned_names(self, owner_id: UUID, asset_ids: Sequence[UUID]) -> Names:
        digest = await asyncio.to_thread(part_digest, asset_ids)
        return await self._catalog.download_parts.names(owner_id, digest, datetime.now(UTC))

    async def source(self, manifest: Manifest, filename: str, made: datetime) -> ArchiveSource:
        """The archive's bytes, laid out off the event loop."""
        plan = await asyncio.to_thread(_laid_out, manifest)
        return ArchiveSource(
            plan=plan,
            manifest=manifest,
            places=self._catalog.assets,
            checksums=self._catalog.files,
            storage=self._storage,
            ahead=self._ahead,
            losses=self.losses,
            filename=filename,
            last_modified=made,
            outages=self._catalog.outages,
        )

    async def _chosen(self, owner_id: UUID, asset_ids: Iterable[UUID]) -> list[Asset]:
        wanted = list(dict.fromkeys(asset_ids))
        known = await self._catalog.assets.owned(owner_id, wanted)
        missing = [asset_id for asset_id in wanted if asset_id not in known]
        if missing:
            raise NotFound("asset", missing)
        chosen = [_archivable(known[asset_id]) for asset_id in wanted]
        await self._require_mounted(chosen)
        return chosen

    async def _require_mounted(self, assets: Sequence[Asset]) -> None:
        if not any(asset.library_id for asset in assets):
            return
        away = await self._catalog.libraries.unmounted()
        for asset in assets:
            library = away.get(asset.library_id) if asset.library_id else None
            if library is not None:
                reason = f"is offline: the library {library.name!r} is not mounted"
                raise NotArchivable(asset.id, asset.original_file_name, reason)

    async def _with_motion(self, owner_id: UUID, assets: Sequence[Asset]) -> list[list[Asset]]:
        """Each asset, with the motion part of a live photo beside it."""
        motion_ids = [asset.live_photo_video_id for asset in assets if asset.live_photo_video_id]
        motion = await self._catalog.assets.owned(owner_id, motion_ids)
        groups: list[list[Asset]] = []
        for asset in assets:
            part = motion.get(asset.live_photo_video_id) if asset.live_photo_video_id else None
            groups.append([asset] if part is None or _fault(part) else [asset, part])
        return groups


def _laid_out(manifest: Manifest) -> Plan:
    _ = manifest.etag  # hashed here, and not on the loop when it is first asked for
    return Plan([entry.planned() for entry in manifest.entries])


def _names_in_parts(parts: Sequence[Part], assets: Sequence[Asset]) -> dict[bytes, Names]:
    """What is not called by its own name, in each part by its digest."""
    own = {asset.id: asset.original_file_name for asset in assets}
    in_order = [asset_id for part in parts for asset_id in part.asset_ids]
    names = dict(zip(in_order, archive_names(own[asset_id] for asset_id in in_order), strict=True))
    renamed = {asset_id: name for asset_id, name in names.items() if name != cleaned(own[asset_id])}
    return {
        part_digest(part.asset_ids): {asset_id: renamed[asset_id] for asset_id in part.asset_ids if asset_id in renamed}
        for part in parts
    }


def _frozen(assets: Sequence[Asset], planned: Names) -> Manifest:
    names = archive_names(planned.get(asset.id, asset.original_file_name) for asset in assets)
    return Manifest(
        tuple(
            ManifestEntry(
                asset_id=asset.id,
                kind=FileKind.ORIGINAL,
                name=name,
                size=_size(asset),
                crc32=asset.file.crc32 if asset.file.size else 0,  # of nothing it is known
                modified=asset.file_modified_at,
                checksum=asset.file.sha1,
            )
            for asset, name in zip(assets, names, strict=True)
        )
    )


def _archivable(asset: Asset) -> Asset:
    fault = _fault(asset)
    if fault is not None:
        raise NotArchivable(asset.id, asset.original_file_name, fault)
    return asset


def _fault(asset: Asset) -> str | None:
    if asset.deleted_at is not None:
        return "is in the trash"
    if asset.is_offline:
        return "is offline"
    if asset.file.size is None:
        return "has no stored file"
    return None


def _size(asset: Asset) -> int:
    return asset.file.size or 0
