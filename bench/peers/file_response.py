"""Starlette's `FileResponse` under uvicorn: serves the file `BENCH_FILE` on every path."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

FILE = os.environ["BENCH_FILE"]


async def send(request: Request) -> FileResponse:
    return FileResponse(FILE)


app = Starlette(routes=[Route("/{name:path}", send)])
