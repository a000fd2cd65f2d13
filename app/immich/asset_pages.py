"""Pages of Immich's assets, translated, with the files that were found for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from app.immich.media_roots import FoundFile, MediaRoots
from app.immich.problems import ProblemKind
from app.immich.source.reader import PAGE_ROWS, SourceReader
from app.immich.source.records import SourceAsset
from app.immich.translation import TranslatedAsset, list_paths, translate_asset


@dataclass(frozen=True, slots=True)
class AssetPage:
    """Assets in the order of their ids."""

    assets: list[tuple[SourceAsset, TranslatedAsset]]

    @property
    def last_id(self) -> UUID:
        return self.assets[-1][0].id


class AssetPages:
    def __init__(self, reader: SourceReader, roots: MediaRoots, *, rows: int = PAGE_ROWS) -> None:
        """`rows`: of a page, at most."""
        self._reader = reader
        self._roots = roots
        self._rows = rows

    async def iterate(
        self, *, after: UUID | None = None, owners: Sequence[UUID] | None = None
    ) -> AsyncIterator[AssetPage]:
        """Raises `SourceUnavailable`."""
        async for assets in self._reader.iterate_assets(after=after, owners=owners, rows=self._rows):
            yield await self.translate(assets)

    async def translate(self, assets: Sequence[SourceAsset]) -> AssetPage:
        """Looks at the files of the assets, in a thread, and translates the rows."""
        videos = await self._reader.get_original_paths(
            {asset.live_photo_video_id for asset in assets if asset.live_photo_video_id is not None}
        )
        paths = [path for asset in assets for path in list_paths(asset)]
        found = await asyncio.to_thread(self._roots.find_many, [*paths, *videos.values()])
        lost = {video for video, path in videos.items() if not isinstance(found[path], FoundFile)}
        page = [(asset, translate_asset(asset, found)) for asset in assets]
        for asset, translated in page:
            video = asset.live_photo_video_id
            if video is not None and (video in lost or video not in videos):
                translated.add(ProblemKind.LOST_VIDEO, f"{asset.id} {asset.original_path}")
                if translated.asset is not None:
                    translated.asset = replace(translated.asset, live_photo_video_id=None)
        return AssetPage(page)
