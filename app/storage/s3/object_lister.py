"""Lists all objects below a prefix, also on stores without continuation tokens or `start-after`, or that encode keys wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.storage.s3.feature_probe import FeatureProbe
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.responses import ListedObject, ListingPage


class ObjectLister:
    """Lists objects through one client."""

    def __init__(self, client: S3Client, feature_probe: FeatureProbe) -> None:
        self._client = client
        self._feature_probe = feature_probe

    async def list_page(
        self,
        prefix: str,
        marker: tuple[str, ...] | None = None,
        *,
        start_after: str | None = None,
        limit: int = 1000,
    ) -> ListingPage[ListedObject]:
        """As `S3Client.list_page`. Where the keys of the page are ambiguous, the store's key encoding is probed first."""
        if not self._feature_probe.is_settled(S3Feature.KEY_ENCODING):
            try:
                page = await self._client.list_page(prefix, marker, start_after=start_after, limit=limit)
            except S3RequestRefused:
                page = None
            if page is not None and not page.has_ambiguous_keys:
                return page
            await self._feature_probe.probe_listing()
        return await self._client.list_page(prefix, marker, start_after=start_after, limit=limit)

    async def list_objects(self, prefix: str, start_after: str | None) -> AsyncIterator[ListedObject]:
        """Every object whose key starts with `prefix`, in the store's order; only those after `start_after`, where given."""
        if start_after is not None:
            await self._feature_probe.probe_listing()
            if not self._client.capabilities.has(S3Feature.START_AFTER):
                async for item in self._list_by_skipping(prefix, start_after):
                    yield item
                return
        current_marker: tuple[str, ...] | None = None
        while True:
            page = await self.list_page(prefix, current_marker, start_after=start_after)
            for item in page.items:
                yield item
            if page.next_marker is None:
                return
            if page.next_marker != ("",):
                if page.next_marker == current_marker:
                    raise S3RequestRefused(prefix, BACKEND, "list_objects_v2: the listing does not go on")
                current_marker = page.next_marker
                continue
            current_marker, start_after = None, await self._find_resume_key(prefix, page, start_after)

    async def _find_resume_key(self, prefix: str, page: ListingPage[ListedObject], start_after: str | None) -> str:
        """The key after which to continue a truncated listing without a continuation token."""
        self._client.capabilities.mark_missing(S3Feature.CONTINUATION_TOKEN, "a listing was cut off without one")
        await self._feature_probe.probe_listing()
        if (
            not page.items
            or page.items[-1].key == start_after
            or not self._client.capabilities.has(S3Feature.START_AFTER)
        ):
            raise S3RequestRefused(
                prefix, BACKEND, "list_objects_v2: the listing is cut off, and the store tells no way to go on"
            )
        return page.items[-1].key

    async def _list_by_skipping(self, prefix: str, start_after: str) -> AsyncIterator[ListedObject]:
        """Lists all objects, and skips those up to `start_after`. Where that object is gone, skips the keys up to it in S3's order (UTF-8)."""
        is_past_start = False
        async for item in self.list_objects(prefix, None):
            if is_past_start:
                yield item
            is_past_start = is_past_start or item.key == start_after
        if not is_past_start:
            async for item in self.list_objects(prefix, None):
                if item.key.encode() > start_after.encode():
                    yield item
