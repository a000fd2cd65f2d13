"""Complete listings, also from stores that lack a token to go on with, `start-after`, or an honest encoding of keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.storage.s3.answers import Listed, Page
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.errors import BACKEND, S3Refusal
from app.storage.s3.trial import Trial


class Listings:
    """The listings of one client."""

    def __init__(self, client: S3Client, trial: Trial) -> None:
        self._client = client
        self._trial = trial

    async def page(
        self,
        prefix: str,
        following: tuple[str, ...] | None = None,
        *,
        start_after: str | None = None,
        limit: int = 1000,
    ) -> Page[Listed]:
        """As `S3Client.list_page`. Where the keys leave open how they are encoded, that is found out first."""
        if not self._trial.is_settled(Feature.KEY_ENCODING):
            try:
                page = await self._client.list_page(prefix, following, start_after=start_after, limit=limit)
            except S3Refusal:
                page = None
            if page is not None and not page.ambiguous:
                return page
            await self._trial.listing()
        return await self._client.list_page(prefix, following, start_after=start_after, limit=limit)

    async def objects(self, prefix: str, start_after: str | None) -> AsyncIterator[Listed]:
        """Every object whose key starts with `prefix`, in the store's order; those after `start_after` in it, where that is given."""
        if start_after is not None:
            await self._trial.listing()
            if not self._client.capabilities.has(Feature.START_AFTER):
                async for item in self._skipping(prefix, start_after):
                    yield item
                return
        following: tuple[str, ...] | None = None
        while True:
            page = await self.page(prefix, following, start_after=start_after)
            for item in page.items:
                yield item
            if page.following is None:
                return
            if page.following != ("",):
                if page.following == following:
                    raise S3Refusal(prefix, BACKEND, "list_objects_v2: the listing does not go on")
                following = page.following
                continue
            following, start_after = None, await self._last_key(prefix, page, start_after)

    async def _last_key(self, prefix: str, page: Page[Listed], start_after: str | None) -> str:
        """Where to go on behind a page that is cut off and names no token."""
        self._client.capabilities.lacks(Feature.CONTINUATION_TOKEN, "a listing was cut off without one")
        await self._trial.listing()
        if (
            not page.items
            or page.items[-1].key == start_after
            or not self._client.capabilities.has(Feature.START_AFTER)
        ):
            raise S3Refusal(
                prefix, BACKEND, "list_objects_v2: the listing is cut off, and the store tells no way to go on"
            )
        return page.items[-1].key

    async def _skipping(self, prefix: str, start_after: str) -> AsyncIterator[Listed]:
        """Behind `start_after` by its place in the listing; where it is gone, behind it in the order of UTF-8, which is S3's."""
        found = False
        async for item in self.objects(prefix, None):
            if found:
                yield item
            found = found or item.key == start_after
        if not found:
            async for item in self.objects(prefix, None):
                if item.key.encode() > start_after.encode():
                    yield item
