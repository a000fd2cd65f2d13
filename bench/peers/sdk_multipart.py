"""Uploads a file to S3 by the SDK alone: a multipart upload of parts of 8 MiB, four at a time, without hashes. Prints the seconds of CPU.

Run as `python -m bench.peers.sdk_multipart ENDPOINT BUCKET KEY FILE`; the access keys are in the environment.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session
from botocore.config import Config

PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4


async def upload(client: Any, bucket: str, key: str, file: Path) -> None:
    created = await client.create_multipart_upload(Bucket=bucket, Key=key)
    target = {"Bucket": bucket, "Key": key, "UploadId": created["UploadId"]}
    slots = asyncio.Semaphore(PARTS_AT_ONCE)

    async def put(number: int, body: bytes) -> dict[str, object]:
        try:
            answer = await client.upload_part(**target, PartNumber=number, Body=body)
        finally:
            slots.release()
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with file.open("rb") as source:
        parts: list[asyncio.Task[dict[str, object]]] = []
        for number in range(1, file.stat().st_size // PART_BYTES + 2):
            await slots.acquire()
            if not (body := source.read(PART_BYTES)):
                break
            parts.append(asyncio.create_task(put(number, body)))
        done = await asyncio.gather(*parts)
    await client.complete_multipart_upload(**target, MultipartUpload={"Parts": done})


async def main() -> None:
    endpoint, bucket, key, file = sys.argv[1:]
    config = Config(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
    )
    async with get_session().create_client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", config=config
    ) as client:
        before = time.process_time()
        await upload(client, bucket, key, Path(file))
        print(time.process_time() - before)


if __name__ == "__main__":
    asyncio.run(main())
