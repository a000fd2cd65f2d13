"""`FeatureProbe`: finds out with a small test object which S3 features a store silently ignores.

A refused feature is detected when it is used (see `optional_fields`). An ignored condition, keys that are encoded otherwise than the listing
says, and an ignored `start-after` raise no error. Each is tried once per client, before its first use.
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
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import S3RequestRefused
from app.storage.s3.protocol.upload_body import UploadBody

RETRY_SECONDS = 30.0
"""Pause before a failed or denied trial is repeated; meanwhile requests are sent without its result."""
_CLEANUP_SECONDS = 5.0
_AMBIGUOUS_NAME = "a %2Bé+&"
"""A name that differs in every way of encoding keys."""


class FeatureProbe:
    """The trials of one client. Each deletes its test object; where the store refuses that, the sweep removes it."""

    def __init__(self, client: S3Client, start_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """`start_task` starts a task that its owner lets run to its end: when the caller that began a trial is cancelled, other callers
        still get its result, and its test object is still deleted."""
        self._client = client
        self._capabilities = client.capabilities
        self._start_task = start_task
        self._running: dict[S3Feature, asyncio.Task[None]] = {}
        self._retry_at: dict[S3Feature, float] = {}
        self._probed: set[S3Feature] = set()

    async def probe_all(self) -> None:
        """Runs all trials, for reports."""
        await self.probe_conditional_put()
        await self.probe_multipart()
        await self.probe_listing()

    async def probe_conditional_put(self) -> None:
        """Tries whether PutObject honours `If-None-Match`. As the other trials, raises nothing where the store refuses a step; a trial
        without a result is repeated after `RETRY_SECONDS`."""
        await self._probe_once(S3Feature.CONDITIONAL_PUT, self._probe_put)

    async def probe_multipart(self) -> None:
        """Tries whether a multipart upload can be completed with checksums, and whether Complete honours `If-None-Match`."""
        await self._probe_once(S3Feature.CONDITIONAL_COMPLETE, self._probe_multipart)

    async def probe_listing(self) -> None:
        """Tries how keys are encoded in listings, and whether `start-after` works."""
        await self._probe_once(S3Feature.KEY_ENCODING, self._probe_listing)

    def is_settled(self, feature: S3Feature) -> bool:
        """True where the trial has ended, or the feature is known otherwise."""
        return self._capabilities.is_known(feature) or feature in self._probed

    async def _probe_once(self, feature: S3Feature, probe: Callable[[str, str], Awaitable[None]]) -> None:
        """Concurrent callers wait for the same trial."""
        now = asyncio.get_running_loop().time()
        if self.is_settled(feature) or now < self._retry_at.get(feature, now):
            return
        running = self._running.get(feature)
        if running is None:
            running = self._running[feature] = self._start_task(self._run_probe(feature, probe))
            running.add_done_callback(lambda _: self._running.pop(feature))
        await asyncio.shield(running)

    async def _run_probe(self, feature: S3Feature, probe: Callable[[str, str], Awaitable[None]]) -> None:
        prefix = f"{TEMPORARY_PREFIX}trial-{secrets.token_hex(8)}"
        key = f"{prefix}-{_AMBIGUOUS_NAME}{TEMPORARY_SUFFIX}"
        try:
            await probe(prefix, key)
        except S3RequestRefused:
            self._probed.add(feature)
        except StorageError:
            self._retry_at[feature] = asyncio.get_running_loop().time() + RETRY_SECONDS
        else:
            self._probed.add(feature)
        finally:
            with suppress(StorageError, TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    await self._client.delete(key)

    async def _put_test_object(self, key: str) -> None:
        body = UploadBody(b"x", with_checksum=self._client.sends_own_checksums)
        await self._client.put(key, body, content_type=None, metadata={}, if_absent=True)

    async def _probe_put(self, _prefix: str, key: str) -> None:
        await self._put_test_object(key)
        if not self._capabilities.has(S3Feature.CONDITIONAL_PUT):
            return
        try:
            await self._put_test_object(key)
        except ObjectExists:
            self._capabilities.mark_confirmed(S3Feature.CONDITIONAL_PUT)
        else:
            self._capabilities.mark_missing(S3Feature.CONDITIONAL_PUT, "ignored: an object was replaced")

    async def _probe_multipart(self, _prefix: str, key: str) -> None:
        try:
            await self._upload_test_object(key, with_checksums=True, if_absent=False)
        except S3RequestRefused as refusal:
            # A store was seen that accepts the checksum type, and then answers InvalidPart to Complete.
            await self._upload_test_object(key, with_checksums=False, if_absent=False)
            for feature in (S3Feature.FULL_OBJECT_CHECKSUM, S3Feature.MULTIPART_CHECKSUM):
                self._capabilities.mark_missing(feature, f"an upload with it is refused: {refusal.detail}")
        if not self._capabilities.has(S3Feature.CONDITIONAL_COMPLETE):
            return
        try:
            await self._upload_test_object(key, with_checksums=True, if_absent=True)
        except ObjectExists:
            if self._capabilities.has(S3Feature.CONDITIONAL_COMPLETE):
                self._capabilities.mark_confirmed(S3Feature.CONDITIONAL_COMPLETE)
        else:
            self._capabilities.mark_missing(S3Feature.CONDITIONAL_COMPLETE, "ignored: an object was replaced")

    async def _upload_test_object(self, key: str, *, with_checksums: bool, if_absent: bool) -> None:
        client = self._client
        upload_id = await client.create_upload(key, content_type=None, metadata={}, with_checksums=with_checksums)
        try:
            part = await client.upload_part(
                key, upload_id, 1, UploadBody(b"y", with_checksum=client.sends_own_checksums)
            )
            await client.complete(key, upload_id, [part], size=1, if_absent=if_absent)
        except StorageError:
            with suppress(StorageError):
                await client.abort(key, upload_id)
            raise

    async def _probe_listing(self, prefix: str, key: str) -> None:
        client, name = self._client, self._client.add_prefix(key)
        await self._put_test_object(key)
        names, says_encoded = await client.list_raw_keys(prefix)
        for decode in (str, unquote_plus, unquote):
            if name in map(decode, names):
                client.decode_key = decode
                if says_encoded == (decode is not str):
                    self._capabilities.mark_confirmed(S3Feature.KEY_ENCODING)
                else:
                    self._capabilities.mark_missing(
                        S3Feature.KEY_ENCODING, "the listing does not say how keys are encoded"
                    )
                break
        if not names:
            return
        after, _ = await client.list_raw_keys(prefix, start_after=key)
        if after:
            self._capabilities.mark_missing(S3Feature.START_AFTER, "ignored: the listing began at its start")
        elif self._capabilities.has(S3Feature.START_AFTER):
            self._capabilities.mark_confirmed(S3Feature.START_AFTER)
