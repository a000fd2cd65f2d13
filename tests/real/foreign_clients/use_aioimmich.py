# pyright: basic, reportMissingImports=false
"""Uploads a folder, lists it and downloads it with aioimmich, as Home Assistant does. Arguments: host, port, key, folder, target."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
from aioimmich import Immich


async def main(host: str, port: str, key: str, folder: str, target: str) -> None:
    async with aiohttp.ClientSession() as session:
        immich = Immich(session, key, host, int(port), use_ssl=False)
        await immich.async_setup()
        me = await immich.users.async_get_my_user()
        about = await immich.server.async_get_about_info()
        check = await immich.server.async_get_version_check()
        storage = await immich.server.async_get_storage_info()
        albums = await immich.albums.async_get_all_albums()
        people = await immich.people.async_get_all_people()
        tags = await immich.tags.async_get_all_tags()
        for path in sorted(Path(folder).rglob("*.jpg")):
            await immich.assets.async_upload_asset(str(path))
        statistics = await immich.server.async_get_server_statistics()
        assets = await immich.search.async_get_all()
        for asset in assets:
            # Of a photo that browsers show, `fullsize` leads to the original.
            original = await immich.assets.async_view_asset(asset.asset_id, size="fullsize")
            (Path(target) / asset.original_file_name).write_bytes(original)
        report = {
            "email": me.email,
            "version": [immich.api.version.major, immich.api.version.minor],
            "about": about.version,
            "release": check.release_version,
            "disk": storage.disk_use_raw >= 0,
            "photos": statistics.photos,
            "empty": [*albums, *people, *tags],
        }
        print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))
