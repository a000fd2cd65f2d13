"""`SignedLinks`: signed links by key, reused for a few minutes, since signing costs more than sending the request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from app.storage.s3.http.client import RequestTarget
from app.storage.s3.protocol.client import S3Client

_LINK_SECONDS = 900
_LINK_REUSE_SECONDS = 300.0
"""Well below the ten minutes for which temporary credentials are still valid at least when the SDK signs with them."""
_MAX_LINKS = 8192


class SignedLinks:
    """Links for GETs, reused for `_LINK_REUSE_SECONDS`, or until credentials or clock offset change."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._links: OrderedDict[str, tuple[RequestTarget, float, int]] = OrderedDict()

    async def get(self, key: str) -> tuple[RequestTarget, bool]:
        """The link, and whether it was made by this call."""
        now = asyncio.get_running_loop().time()
        known = self._links.get(key)
        generation = self._client.signing.generation
        if known and known[1] > now and known[2] == generation:
            self._links.move_to_end(key)
            return known[0], False
        link = RequestTarget.parse(await self._client.presign_get(key, _LINK_SECONDS))
        self._links[key] = (link, now + _LINK_REUSE_SECONDS, generation)
        self._links.move_to_end(key)
        while len(self._links) > _MAX_LINKS:
            self._links.popitem(last=False)
        return link, True

    def evict(self, key: str) -> None:
        self._links.pop(key, None)
