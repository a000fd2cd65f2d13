# pyright: basic, reportMissingImports=false
"""Uploads a folder and downloads it with immichpy, and reads every answer that its models check. Arguments: address, an administrator's
key, folder, target."""

import asyncio
import json
import sys
from pathlib import Path

from immichpy import AsyncClient
from immichpy.client.generated import (
    AssetBulkUpdateDto,
    MetadataSearchDto,
    PartnerDirection,
    RandomSearchDto,
    StatisticsSearchDto,
)


async def main(address: str, key: str, folder: str, target: str) -> None:
    async with AsyncClient(api_key=key, base_url=address) as client:
        first = await client.assets.upload(folder)
        second = await client.assets.upload(folder)
        ids = [entry.asset.id for entry in first.uploaded]
        found = await client.search.search_assets(MetadataSearchDto(withExif=True))
        for asset in found.assets.items:
            await client.assets.download_asset_to_file(asset.id, Path(target))
            await client.assets.get_asset_info(asset.id)
            await client.assets.get_asset_metadata(asset.id)
        await client.assets.update_assets(AssetBulkUpdateDto(ids=ids, dateTimeRelative=5, isFavorite=True))
        (bucket,) = await client.timeline.get_time_buckets()
        columns = await client.timeline.get_time_bucket(bucket.time_bucket, with_coordinates=True, with_stacked=True)
        paths = await client.views.get_unique_original_paths()
        await client.views.get_assets_by_original_path(paths[0])
        await client.search.search_random(RandomSearchDto())
        await client.search.search_large_assets(with_exif=True)
        statistics = await client.search.search_asset_statistics(StatisticsSearchDto())
        version = await client.server.get_server_version()
        me = await client.users.get_my_user()
        for read in (
            client.server.get_about_info,
            client.server.get_server_config,
            client.server.get_server_features,
            client.server.get_server_statistics,
            client.server.get_storage,
            client.server.get_version_check,
            client.server.get_version_history,
            client.users.get_my_preferences,
            client.users.search_users,
            client.users_admin.search_users_admin,
            client.sessions.get_sessions,
            client.queues.get_queues,
            client.jobs.get_queues_legacy if hasattr(client.jobs, "get_queues_legacy") else client.queues.get_queues,
            client.albums.get_album_statistics,
            client.people.get_all_people,
            client.memories.memories_statistics,
            client.api_keys.get_api_keys,
            client.libraries.get_all_libraries,
        ):
            await read()
        empty = [
            *await client.albums.get_all_albums(),
            *await client.tags.get_all_tags(),
            *await client.stacks.search_stacks(),
            *await client.shared_links.get_all_shared_links(),
            *await client.partners.get_partners(PartnerDirection.SHARED_MINUS_BY),
            *await client.memories.search_memories(),
            *await client.notifications.get_notifications(),
            *await client.duplicates.get_asset_duplicates(),
            *await client.map.get_map_markers(),
        ]
        report = {
            "uploaded": first.stats.uploaded,
            "again": [second.stats.uploaded, second.stats.rejected],
            "listed": len(found.assets.items),
            "bucket": [bucket.count, len(columns.id)],
            "total": statistics.total,
            "version": [version.major, version.minor],
            "email": me.email,
            "empty": empty,
        }
        print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))
