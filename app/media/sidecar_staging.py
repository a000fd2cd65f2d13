"""Copies the sidecar of an asset to a local file, which the sandboxed worker reads."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from app.catalog.catalog import Catalog
from app.catalog.schema.records import Asset
from app.config import MEBIBYTE
from app.formats import MAX_SIDECAR_BYTES
from app.media.errors import to_one_line
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.service import StorageService


@dataclass(frozen=True, slots=True)
class StagedSidecar:
    """`path` is None where there is no sidecar, or none that can be read; `error` says why."""

    path: Path | None = None
    error: str | None = None


class SidecarStager:
    def __init__(self, catalog: Catalog, storage: StorageService) -> None:
        self._catalog = catalog
        self._storage = storage

    async def stage_sidecar(self, asset: Asset, folder: Path) -> StagedSidecar:
        """Copy the asset's sidecar into `folder`. A sidecar that is missing or cannot be read is an error of the sidecar only, unless a retry
        may help: then raises `StorageError`."""
        path = await self._find_path(asset)
        if path is None:
            return StagedSidecar()
        try:
            content = await self._read(path)
        except StorageError as error:
            if error.retryable:
                raise
            if asset.library_id is not None:
                await self._catalog.library_sidecars.mark_unread(asset.id)
            is_missing = isinstance(error, ObjectNotFound)
            reason = "it is missing" if is_missing else f"it cannot be read: {error.detail or type(error).__name__}"
            return StagedSidecar(error=to_one_line(reason))
        if content is None:
            return StagedSidecar(error=f"it is larger than {MAX_SIDECAR_BYTES // MEBIBYTE} MiB")
        staged = folder / "sidecar.xmp"
        await asyncio.to_thread(staged.write_bytes, content)
        return StagedSidecar(staged)

    async def _find_path(self, asset: Asset) -> str | None:
        if asset.library_id is not None:
            return await self._catalog.library_sidecars.get_path(asset.id)
        if asset.sidecar_id is None:
            return None
        file = await self._catalog.files.get(asset.sidecar_id)
        return None if file is None else file.path

    async def _read(self, path: str) -> bytes | None:
        """None if it is larger than permitted."""
        async with self._storage.read(path) as stream:
            if stream.info.size > MAX_SIDECAR_BYTES:
                return None
            content = bytearray()
            async for chunk in stream.chunks:
                content += chunk
                if len(content) > MAX_SIDECAR_BYTES:  # it is longer than it was said to be
                    return None
            return bytes(content)
