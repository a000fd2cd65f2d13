"""`ProxiedClient`: sends GETs through the HTTP proxy that the environment names, by aiohttp."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp
from yarl import URL

from app.storage.s3.http.client import RequestTarget


class ProxiedClient:
    """See `HttpClient`. The caller closes `session`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, target: RequestTarget, headers: Mapping[str, str]) -> ProxiedResponse:
        """Raises `aiohttp.ClientError`, `OSError` and `TimeoutError`."""
        url = URL(target.url, encoded=True)
        return ProxiedResponse(await self._session.get(url, headers=headers, allow_redirects=False))

    async def aclose(self) -> None:
        """Nothing to do."""


class ProxiedResponse:
    """See `HttpResponse`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_length = response.content_length

    @property
    def is_connected(self) -> bool:
        return self._response.connection is not None

    def on_complete(self, callback: Callable[[], None]) -> None:
        self._response.content.on_eof(callback)

    async def read_chunk(self) -> bytes:
        while True:
            data, is_end_of_chunk = await self._response.content.readchunk()
            if data or not is_end_of_chunk:  # the end marker of a chunk may come by itself
                return data

    async def read_all(self, limit: int) -> bytes:
        body = b""
        while len(body) < limit and (piece := await self.read_chunk()):
            body += piece
        return body[:limit]

    def close(self) -> None:
        self._response.close()
