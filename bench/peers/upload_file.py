"""FastAPI's `UploadFile`: the form parser spools the file; then it is hashed, copied to `BENCH_TARGET` and synced."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

from fastapi import FastAPI, UploadFile

TARGET = Path(os.environ["BENCH_TARGET"])
CHUNK_BYTES = 1024 * 1024

app = FastAPI()


@app.post("/upload")
def upload(assetData: UploadFile) -> dict[str, str]:  # noqa: N803 - the part's name
    sha1, crc32 = hashlib.sha1(usedforsecurity=False), 0
    with TARGET.open("wb") as target:
        while chunk := assetData.file.read(CHUNK_BYTES):
            sha1.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return {"sha1": sha1.hexdigest(), "crc32": f"{crc32:08x}"}
