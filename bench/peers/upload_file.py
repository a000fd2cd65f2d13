"""FastAPI's `UploadFile`: the form parser spools the file; then it is hashed, copied to a new file in `BENCH_TARGET` and synced, and a row
of it is committed to SQLite."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import zlib
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI, UploadFile

FOLDER = Path(os.environ["BENCH_TARGET"])
CHUNK_BYTES = 1024 * 1024

app = FastAPI()
lock = threading.Lock()
database = sqlite3.connect(FOLDER / "files.db", check_same_thread=False, isolation_level=None)
database.executescript(
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE file (path TEXT PRIMARY KEY, size, sha1, crc32)"
)


@app.post("/upload")
def upload(assetData: UploadFile) -> dict[str, str]:  # noqa: N803 - the part's name
    sha1, crc32, size = hashlib.sha1(usedforsecurity=False), 0, 0
    path = FOLDER / f"{uuid4()}.stored"
    with path.open("wb") as target:
        while chunk := assetData.file.read(CHUNK_BYTES):
            sha1.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            size += len(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    with lock:
        database.execute("INSERT INTO file VALUES (?, ?, ?, ?)", (str(path), size, sha1.hexdigest(), crc32))
    return {"id": path.name, "sha1": sha1.hexdigest(), "crc32": f"{crc32:08x}"}
