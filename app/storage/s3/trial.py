"""Finds out, on a small object below the prefix, which features a store ignores without a word.

A refusal shows itself (see `adapting`); a condition that is ignored, keys that are encoded otherwise than the listing says, or a
`start-after` without effect do not. Each is tried once per client, before it matters for the first time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, unquote_plus

from app.storage.errors import ObjectExists, StorageError
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from app.storage.s3.body import Body
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.errors import S3Refusal

RETRY_SECONDS = 30.0
"""Between two trials of a store that did not answer the first, or denied it; meanwhile calls go on untried."""
_CLEANUP_SECONDS = 5.0
_ODD = "a %2Bé+&"
"""Tells every way of encoding a key from every other."""


class Trial:
    """The trials of one client. They leave nothing behind, unless the store takes no deletes: then the sweep removes it."""

    def __init__(self, client: S3Client, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """`start` makes a task that has an owner and runs to its end: cancelled, whoever began a trial leaves it to those who wait for it, and
        to the removal of what it has made."""
        self._client = client
        self._capabilities = client.capabilities
        self._start = start
        self._running: dict[Feature, asyncio.Task[None]] = {}
        self._retry_at: dict[Feature, float] = {}
        self._given_up: set[Feature] = set()

    async def all(self) -> None:
        """For reports."""
        await self.conditional_put()
        await self.multipart()
        await self.listing()

    async def conditional_put(self) -> None:
        """Never raises for a store that refuses a step, as the others; what could not be told for now is tried again after a
        while."""
        await self._once(Feature.CONDITIONAL_PUT, self._try_put)

    async def multipart(self) -> None:
        """Whether an upload in parts can be completed with its checksums, and whether that heeds its condition."""
        await self._once(Feature.CONDITIONAL_COMPLETE, self._try_multipart)

    async def listing(self) -> None:
        """How keys are encoded, and whether `start-after` works."""
        await self._once(Feature.KEY_ENCODING, self._try_listing)

    def is_settled(self, feature: Feature) -> bool:
        """True where there is nothing more to find out."""
        return self._capabilities.is_known(feature) or feature in self._given_up

    async def _once(self, feature: Feature, step: Callable[[str, str], Awaitable[None]]) -> None:
        """All that need it wait for the same trial."""
        now = asyncio.get_running_loop().time()
        if self.is_settled(feature) or now < self._retry_at.get(feature, now):
            return
        trying = self._running.get(feature)
        if trying is None:
            trying = self._running[feature] = self._start(self._try(feature, step))
            trying.add_done_callback(lambda _: self._running.pop(feature))
        await asyncio.shield(trying)

    async def _try(self, feature: Feature, step: Callable[[str, str], Awaitable[None]]) -> None:
        prefix = f"{TEMPORARY_PREFIX}trial-{secrets.token_hex(8)}"
        key = f"{prefix}-{_ODD}{TEMPORARY_SUFFIX}"
        try:
            await step(prefix, key)
        except S3Refusal:
            self._given_up.add(feature)
        except StorageError:
            self._retry_at[feature] = asyncio.get_running_loop().time() + RETRY_SECONDS
        else:
            self._given_up.add(feature)
        finally:
            with suppress(StorageError, TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    await self._client.delete(key)

    async def _put(self, key: str) -> None:
        body = Body(b"x", checksum=self._client.own_checksums)
        await self._client.put(key, body, content_type=None, metadata={}, once=True)

    async def _try_put(self, _prefix: str, key: str) -> None:
        await self._put(key)
        if not self._capabilities.has(Feature.CONDITIONAL_PUT):
            return
        try:
            await self._put(key)
        except ObjectExists:
            self._capabilities.confirm(Feature.CONDITIONAL_PUT)
        else:
            self._capabilities.lacks(Feature.CONDITIONAL_PUT, "ignored: an object was replaced")

    async def _try_multipart(self, _prefix: str, key: str) -> None:
        try:
            await self._upload(key, checksums=True, once=False)
        except S3Refusal as refusal:
            # A store was seen that takes the checksum's type, and then finds no such part at the end.
            await self._upload(key, checksums=False, once=False)
            for feature in (Feature.FULL_OBJECT_CHECKSUM, Feature.MULTIPART_CHECKSUM):
                self._capabilities.lacks(feature, f"an upload with it is refused: {refusal.detail}")
        if not self._capabilities.has(Feature.CONDITIONAL_COMPLETE):
            return
        try:
            await self._upload(key, checksums=True, once=True)
        except ObjectExists:
            if self._capabilities.has(Feature.CONDITIONAL_COMPLETE):
                self._capabilities.confirm(Feature.CONDITIONAL_COMPLETE)
        else:
            self._capabilities.lacks(Feature.CONDITIONAL_COMPLETE, "ignored: an object was replaced")

    async def _upload(self, key: str, *, checksums: bool, once: bool) -> None:
        client = self._client
        upload_id = await client.create_upload(key, content_type=None, metadata={}, checksums=checksums)
        try:
            part = await client.upload_part(key, upload_id, 1, Body(b"y", checksum=client.own_checksums))
            await client.complete(key, upload_id, [part], size=1, once=once)
        except StorageError:
            with suppress(StorageError):
                await client.abort(key, upload_id)
            raise

    async def _try_listing(self, prefix: str, key: str) -> None:
        client, name = self._client, self._client.full_key(key)
        await self._put(key)
        names, says_encoded = await client.list_names(prefix)
        for decode in (str, unquote_plus, unquote):
            if name in map(decode, names):
                client.decode_keys = decode
                if says_encoded == (decode is not str):
                    self._capabilities.confirm(Feature.KEY_ENCODING)
                else:
                    self._capabilities.lacks(Feature.KEY_ENCODING, "the listing does not say how keys are encoded")
                break
        if not names:
            return
        after, _ = await client.list_names(prefix, start_after=key)
        if after:
            self._capabilities.lacks(Feature.START_AFTER, "ignored: the listing began at its start")
        elif self._capabilities.has(Feature.START_AFTER):
            self._capabilities.confirm(Feature.START_AFTER)
