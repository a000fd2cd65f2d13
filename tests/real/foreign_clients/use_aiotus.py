# pyright: basic, reportMissingImports=false
"""Uploads a file with aiotus. Arguments: address of the endpoint, key, chunk size, metadata as JSON, file. Prints what the server tells."""

import asyncio
import json
import sys
from pathlib import Path

import aiotus


async def main(address: str, key: str, chunk_size: str, metadata: str, file: str) -> None:
    headers = {"x-api-key": key}
    pairs = {name: value.encode() for name, value in json.loads(metadata).items()}
    with Path(file).open("rb") as content:
        url = await aiotus.upload(address, content, metadata=pairs, headers=headers, chunksize=int(chunk_size))
    read = await aiotus.metadata(url, headers=headers)
    print(json.dumps({"url": str(url), "metadata": {name: (value or b"").decode() for name, value in read.items()}}))


asyncio.run(main(*sys.argv[1:]))
