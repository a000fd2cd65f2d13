# pyright: basic, reportMissingImports=false
"""Uploads a file with tuspy. Arguments: address of the endpoint, key, chunk size, metadata as JSON, file. Prints the upload's address."""

import json
import sys

from tusclient.client import TusClient


def main(address: str, key: str, chunk_size: str, metadata: str, file: str) -> None:
    client = TusClient(address, headers={"x-api-key": key})
    uploader = client.uploader(
        file, chunk_size=int(chunk_size), metadata=json.loads(metadata), upload_checksum=True, retries=3, retry_delay=1
    )
    uploader.upload(stop_at=int(chunk_size))
    resumed = client.uploader(file, url=uploader.url, chunk_size=int(chunk_size), upload_checksum=True)
    assert resumed.offset == int(chunk_size), resumed.offset
    resumed.upload()
    print(json.dumps({"url": resumed.url, "offset": resumed.get_offset()}))


main(*sys.argv[1:])
