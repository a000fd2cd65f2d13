"""`S3Reader`: reads objects by signed GETs, on its own connection pool, so that downloads never starve uploads or health checks.

The SDK only signs: one link per object, reused for a few minutes. The bytes do not pass through the SDK. When the connection breaks, the read
continues at the current offset. A reader whose client stalls gives its connection to others, and opens a new one when the client reads on. Both use `Range` and `If-Match`,
so that all bytes are those of the object that the read began with.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from app.config import Settings
from app.storage.backend import MAX_CHUNK_BYTES, ObjectStream
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StorageError, StorageUnavailable
from app.storage.ranges import ByteRange
from app.storage.s3.content_range import RangeContent, SizeUnknown, check_content_range
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused, translate_s3_error
from app.storage.s3.protocol.responses import UNVERSIONED_ETAG, is_strong
from app.storage.s3.protocol.sdk import find_proxy, make_tls_context
from app.storage.s3.protocol.signing import STALE_CREDENTIAL_CODES, ErrorResponse

STALL_SECONDS = 10.0
MAX_CONTINUATIONS = 3
_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.2
_LINK_SECONDS = 900
_LINK_REUSE_SECONDS = 300.0
"""Well below the ten minutes for which temporary credentials are still valid at least when the SDK signs with them."""
_MAX_LINKS = 8192
_RECEIVE_BYTES = 256 * 1024
_CONNECT_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 12.0
_ERROR_BYTES = 64 * 1024
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,64})</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]{1,4096})</Message>")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d+)")


class S3Reader:
    """All reads of one backend. The session limits the connections; further reads wait, at most `deadline` seconds."""

    def __init__(self, client: S3Client, session: aiohttp.ClientSession, deadline: float, minimum_rate: int) -> None:
        self._client = client
        self._session = session
        self._links = _LinkCache(client)
        self.deadline = deadline
        self.minimum_rate = minimum_rate
        self.stall_seconds = STALL_SECONDS
        self.open_reads: set[_ReadChunks] = set()

    @property
    def connections_in_use(self) -> int:
        """Number of connections that carry a read now."""
        return sum(chunks.is_connected for chunks in self.open_reads)

    async def aclose(self) -> None:
        await self._session.close()

    def forget_link(self, key: str) -> None:
        """Drop the cached link of an object that will not be read again."""
        self._links.evict(key)

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> AsyncGenerator[ObjectStream]:
        """See `StorageBackend.read_stream`."""
        reply = await self.send_get(key, byte_range, if_match)
        content = reply.content
        if content.served is None:
            reply.response.release()
            yield ObjectStream(content.info, None, _no_chunks())
            return
        with _ReadChunks(self, reply, content.served) as chunks:
            yield ObjectStream(content.info, content.served, chunks)

    async def fetch_link(self, link: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """GET a signed link as a client would: returns status, headers and the first bytes, for `mediavault doctor`. Raises
        `StorageUnavailable`."""
        try:
            async with (
                asyncio.timeout(self.deadline),
                self._session.get(URL(link, encoded=True), headers=headers, allow_redirects=False) as response,
            ):
                return response.status, response.headers, await response.content.read(_ERROR_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable("", BACKEND, f"get: {type(error).__name__}") from error

    async def send_get(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> ReadResponse:
        """Send one GET and return after its headers. Raises all errors of a read that occur before the first byte."""
        try:
            async with asyncio.timeout(self.deadline):
                response = await self._get_with_fallbacks(key, byte_range, if_match)
                try:
                    content = await self._check_response(key, response, byte_range)
                    if if_match is not None and content.info.etag != if_match:
                        raise ObjectChanged(key, BACKEND, f"etag {if_match} expected, {content.info.etag} found")
                except BaseException:
                    response.close()
                    raise
                return ReadResponse(content, response)
        except TimeoutError:
            detail = f"no connection or no answer within {self.deadline:.0f} s"
            raise StorageUnavailable(key, BACKEND, detail) from None

    async def _get_with_fallbacks(
        self, key: str, byte_range: ByteRange | None, if_match: str | None
    ) -> aiohttp.ClientResponse:
        """The successful response to a GET. Where a store refuses a range that is longer than the object, or `If-Match`, the GET is sent
        again without these."""
        conditional = if_match is not None and is_strong(if_match) and self._client.capabilities.has(S3Feature.IF_MATCH)
        condition = {"If-Match": if_match} if conditional and if_match is not None else {}
        try:
            return await self._get_with_retries(key, {**_request_headers(byte_range), **condition})
        except S3RequestRefused as error:
            refusal: StorageError = error
        except ObjectChanged as error:
            if not condition or (await self._client.head(key)).etag != if_match:
                raise
            refusal = error
        if byte_range is not None and isinstance(refusal, S3RequestRefused):
            size = (await self._client.head(key)).size
            clamped = byte_range.clamp(size)
            if clamped is None:
                raise RangeNotSatisfiable(key, BACKEND, size)
            if clamped != byte_range:
                return await self._get_with_retries(key, {**_request_headers(clamped), **condition})
        if not condition:
            try:
                raise refusal
            finally:
                del refusal  # its traceback refers to this frame: the cycle would wait for the garbage collector
        response = await self._get_with_retries(key, _request_headers(byte_range))
        self._client.capabilities.mark_missing(S3Feature.IF_MATCH, f"refused: {refusal.detail}")
        return response

    async def _check_response(
        self, key: str, response: aiohttp.ClientResponse, requested: ByteRange | None
    ) -> RangeContent:
        """Compares the headers of a 200 or 206 with the request. Never trusts that a range was honoured."""
        arguments = (key, response.status, response.headers, response.content_length, requested)
        try:
            content = check_content_range(*arguments)
        except SizeUnknown:
            content = check_content_range(*arguments, (await self._client.head(key)).size)
        if content.skip_bytes or content.has_surplus:
            self._client.capabilities.mark_missing(S3Feature.RANGE, "answered with more than was asked for")
        return content

    async def _get_with_retries(self, key: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            link, fresh = await self._links.get(key)
            generation = self._client.signing.generation
            try:
                response = await self._session.get(link, headers=headers, allow_redirects=False)
                if response.status in (200, 206):
                    return response
                refusal = await _read_error_response(response)
                error = self._client.error_explainer.explain_response(
                    await self._to_storage_error(key, response, refusal.code), refusal
                )
            except TimeoutError:
                raise
            except (aiohttp.ClientError, OSError) as failure:
                error = StorageUnavailable(key, BACKEND, f"get: {type(failure).__name__}")
                error = self._client.error_explainer.explain_failure(error, failure)
            else:
                if not fresh and (refusal.status == 403 or refusal.code in STALE_CREDENTIAL_CODES):
                    # The link or its credentials have expired: sign again, once.
                    self._links.evict(key)
                    attempt -= 1
                    continue
                if not renewed and await self._client.signing.renew(refusal, generation):
                    renewed = True
                    attempt -= 1
                    continue
            if not error.retryable or attempt >= _ATTEMPTS:
                raise error
            await asyncio.sleep(_BACKOFF_SECONDS * attempt)

    async def _to_storage_error(self, key: str, response: aiohttp.ClientResponse, code: str) -> StorageError:
        """The error for a response that is neither 200 nor 206."""
        if response.status == 416:
            return await self._range_error(key, response)
        if response.status == 403 and self._client.means_missing_object(code, response.status):
            return ObjectNotFound(key, BACKEND)
        if response.status < 400:
            return S3RequestRefused(key, BACKEND, f"get: unexpected status {response.status}")
        return translate_s3_error(key, "get", code, response.status)

    async def _range_error(self, key: str, response: aiohttp.ClientResponse) -> StorageError:
        match = _UNSATISFIED_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        size = int(match.group(1)) if match else (await self._client.head(key)).size
        return RangeNotSatisfiable(key, BACKEND, size)


class ReadResponse:
    """A successful response whose body has not been read yet."""

    __slots__ = ("content", "response")

    def __init__(self, content: RangeContent, response: aiohttp.ClientResponse) -> None:
        self.content = content
        self.response = response


class _ReadChunks:
    """The iterator over the bytes of one read, which takes further requests when connections break."""

    def __init__(self, reader: S3Reader, response: ReadResponse, served: ByteRange) -> None:
        self._reader = reader
        self._info = response.content.info
        self._skip = response.content.skip_bytes
        self._surplus = response.content.has_surplus
        self._position = served.first
        self._end = served.first + served.length
        self._response: aiohttp.ClientResponse | None = response.response
        self._buffered = b""
        self._break_count = 0
        self._loop = asyncio.get_running_loop()
        self._waited = 0.0
        self._received = 0
        self._idle_since: float | None = self._loop.time()
        self._timer = self._loop.call_later(reader.stall_seconds, self._release_if_stalled)

    @property
    def is_connected(self) -> bool:
        return self._response is not None and self._response.connection is not None

    def __enter__(self) -> Self:
        self._reader.open_reads.add(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._reader.open_reads.discard(self)
        self._timer.cancel()
        self._disconnect()
        self._end = self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._end:
            raise StopAsyncIteration
        self._idle_since = None
        try:
            chunk = self._buffered or await self._receive()
            self._buffered = b""
            if len(chunk) > MAX_CHUNK_BYTES:
                chunk, self._buffered = chunk[:MAX_CHUNK_BYTES], chunk[MAX_CHUNK_BYTES:]
            self._position += len(chunk)
            return chunk
        finally:
            self._idle_since = self._loop.time()

    async def _receive(self) -> bytes:
        while True:
            if self._response is None:
                await self._reconnect()
            started = self._loop.time()
            try:
                chunk = await self._response_bytes()
            except TimeoutError:
                raise StorageUnavailable(self._info.key, BACKEND, "the store stopped sending") from None
            except (aiohttp.ClientError, OSError) as error:
                self._note_break(error)
                continue
            self._waited += self._loop.time() - started
            self._received += len(chunk)
            if not chunk:
                self._note_break(EOFError("the body ended early"))
                continue
            if self._waited > self._reader.deadline + self._received / self._reader.minimum_rate:
                raise StorageUnavailable(self._info.key, BACKEND, "the store sends too slowly")
            if self._skip or len(chunk) > self._end - self._position:
                chunk = self._trim(chunk)
            if chunk:
                return chunk

    def _trim(self, chunk: bytes) -> bytes:
        """Cuts off the bytes before and after the requested range."""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        chunk = chunk[skipped:]
        left = self._end - self._position
        if len(chunk) > left and not self._surplus:
            raise S3RequestRefused(self._info.key, BACKEND, "get: more bytes than announced")
        return chunk[:left]

    async def _response_bytes(self) -> bytes:
        response = self._response
        if response is None:
            raise aiohttp.ClientConnectionError("given back")
        # The pieces as received from the socket, 256 KiB each when the store is fast: joining them costs more than it saves.
        chunk, _ = await response.content.readchunk()
        return chunk

    async def _reconnect(self) -> None:
        """Send a GET for the bytes not yet yielded, of the same version of the object."""
        info = self._info
        if info.etag == UNVERSIONED_ETAG:
            raise StorageUnavailable(info.key, BACKEND, "cannot be continued: the store tells neither ETag nor date")
        rest = ByteRange(self._position, self._end - 1)
        try:
            reply = await self._reader.send_get(info.key, rest, info.etag)
        except RangeNotSatisfiable:
            raise ObjectChanged(info.key, BACKEND, "it is shorter now") from None
        self._response = reply.response
        self._skip, self._surplus = reply.content.skip_bytes, reply.content.has_surplus
        if reply.content.info.size != info.size:
            raise ObjectChanged(info.key, BACKEND, f"{info.size} bytes before, {reply.content.info.size} now")
        self._timer.cancel()
        self._timer = self._loop.call_later(self._reader.stall_seconds, self._release_if_stalled)

    def _note_break(self, error: Exception) -> None:
        self._disconnect()
        self._break_count += 1
        if self._break_count > MAX_CONTINUATIONS:
            detail = f"the body broke {self._break_count} times: {type(error).__name__}"
            raise StorageUnavailable(self._info.key, BACKEND, detail) from error

    def _release_if_stalled(self) -> None:
        """Close the connection of a reader that has stalled, so that other reads can use it."""
        limit = self._reader.stall_seconds
        if not self.is_connected:
            return  # the whole body has arrived: only one buffer is held
        now = self._loop.time()
        idle = 0.0 if self._idle_since is None else now - self._idle_since
        if idle >= limit:
            self._disconnect()
            return
        self._timer = self._loop.call_later(limit - idle, self._release_if_stalled)

    def _disconnect(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


class _LinkCache:
    """Signed links by key, reused for `_LINK_REUSE_SECONDS`, or until credentials or clock offset change."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._links: OrderedDict[str, tuple[URL, float, int]] = OrderedDict()

    async def get(self, key: str) -> tuple[URL, bool]:
        """The link, and whether it was made by this call."""
        now = asyncio.get_running_loop().time()
        known = self._links.get(key)
        generation = self._client.signing.generation
        if known and known[1] > now and known[2] == generation:
            self._links.move_to_end(key)
            return known[0], False
        # Already percent-encoded, and signed so: it must reach the store unchanged.
        link = URL(await self._client.presign_get(key, _LINK_SECONDS), encoded=True)
        self._links[key] = (link, now + _LINK_REUSE_SECONDS, generation)
        self._links.move_to_end(key)
        while len(self._links) > _MAX_LINKS:
            self._links.popitem(last=False)
        return link, True

    def evict(self, key: str) -> None:
        self._links.pop(key, None)


async def open_reader(client: S3Client, settings: Settings) -> S3Reader:
    """Makes the connection pool; opens no connection yet."""
    secure = settings.s3_endpoint is None or settings.s3_endpoint.startswith("https:")
    connector = aiohttp.TCPConnector(
        limit=settings.s3_connections,
        ssl=await asyncio.to_thread(make_tls_context) if secure else True,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_RECEIVE_BYTES,
        proxy=find_proxy(client.endpoint),
        timeout=aiohttp.ClientTimeout(
            total=None,
            sock_connect=min(_CONNECT_SECONDS, settings.s3_deadline),
            sock_read=settings.s3_deadline,
        ),
    )
    return S3Reader(client, session, settings.s3_deadline, settings.s3_minimum_rate)


async def _read_error_response(response: aiohttp.ClientResponse) -> ErrorResponse:
    """Reads and parses the body of an error; the connection stays usable."""
    try:
        text = await response.content.read(_ERROR_BYTES)
    finally:
        response.release()
    code, message = _ERROR_CODE.search(text), _ERROR_MESSAGE.search(text)
    return ErrorResponse(
        code=code.group(1).decode("ascii") if code else "",
        status=response.status,
        date=response.headers.get("Date", ""),
        message=unescape(message.group(1).decode("utf-8", "replace")) if message else "",
        region=response.headers.get("x-amz-bucket-region", ""),
    )


def _request_headers(byte_range: ByteRange | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range.first}-{'' if byte_range.last is None else byte_range.last}"
    return headers


async def _no_chunks() -> AsyncIterator[bytes]:
    for chunk in ():
        yield chunk
