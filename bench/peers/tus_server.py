"""tuspyserver (PyPI), which writes each chunk to a file of `BENCH_TARGET`. It neither hashes nor syncs."""

from __future__ import annotations

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router  # pyright: ignore[reportMissingImports] - installed for the benchmark only

app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=os.environ["BENCH_TARGET"]))
