"""Reads: signed GETs on a connection pool of their own, so that downloads never starve uploads or health.

The SDK only signs, once per object and a few minutes; the bytes never pass through it. A body that breaks is continued
where it broke, and a reader that does not drain gives its connection back and is continued likewise: both by `Range`
and `If-Match`, so that what is sent is always the object that the read began with.
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
from app.storage.s3.answers import UNVERSIONED, is_strong
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.content import Content, SizeUnknown, content_of
from app.storage.s3.errors import BACKEND, S3Refusal, translate
from app.storage.s3.sdk import proxy_for, tls_context
from app.storage.s3.signing import STALE_CODES, Refusal

STALL_SECONDS = 10.0
CONTINUATIONS = 3
_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.2
_LINK_SECONDS = 900
_LINK_REUSE_SECONDS = 300.0
"""Well within the ten minutes that temporary credentials are good for at least when the SDK signs with them."""
_LINKS = 8192
_RECEIVE_BYTES = 256 * 1024
_CONNECT_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 12.0
_ERROR_BYTES = 64 * 1024
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,64})</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]{1,4096})</Message>")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)")


class Reads:
    """All reads of one backend: at most `connections` at a time, the others wait, but not for ever."""

    def __init__(self, client: S3Client, session: aiohttp.ClientSession, deadline: float, minimum_rate: int) -> None:
        self._client = client
        self._session = session
        self._links = _Links(client)
        self.deadline = deadline
        self.minimum_rate = minimum_rate
        self.stall_seconds = STALL_SECONDS
        self.live: set[_Chunks] = set()

    @property
    def connections_in_use(self) -> int:
        """How many connections carry a read now."""
        return sum(chunks.connected for chunks in self.live)

    async def aclose(self) -> None:
        await self._session.close()

    def forget(self, key: str) -> None:
        """Keep nothing about an object that will not be read again."""
        self._links.drop(key)

    @asynccontextmanager
    async def open(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> AsyncGenerator[ObjectStream]:
        """See `StorageBackend.read_stream`."""
        answer = await self.request(key, byte_range, if_match)
        content = answer.content
        if content.served is None:
            answer.response.release()
            yield ObjectStream(content.info, None, _nothing())
            return
        with _Chunks(self, answer, content.served) as chunks:
            yield ObjectStream(content.info, content.served, chunks)

    async def fetch(self, link: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and the first bytes of what a signed link answers to a client, for inspections. Raises `StorageUnavailable`."""
        try:
            async with (
                asyncio.timeout(self.deadline),
                self._session.get(URL(link, encoded=True), headers=headers, allow_redirects=False) as response,
            ):
                return response.status, response.headers, await response.content.read(_ERROR_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable("", BACKEND, f"get: {type(error).__name__}") from error

    async def request(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> Answer:
        """Send one GET and return when its head is there. Raises every error of a read that comes before its bytes."""
        try:
            async with asyncio.timeout(self.deadline):
                response = await self._asked(key, byte_range, if_match)
                try:
                    content = await self._accept(key, response, byte_range)
                    if if_match is not None and content.info.etag != if_match:
                        raise ObjectChanged(key, BACKEND, f"etag {if_match} expected, {content.info.etag} found")
                except BaseException:
                    response.close()
                    raise
                return Answer(content, response)
        except TimeoutError:
            detail = f"no connection or no answer within {self.deadline:.0f} s"
            raise StorageUnavailable(key, BACKEND, detail) from None

    async def _asked(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> aiohttp.ClientResponse:
        """The good answer to a GET; asked again, where a store refuses a range that is longer than the object, or `If-Match`."""
        conditional = if_match is not None and is_strong(if_match) and self._client.capabilities.has(Feature.IF_MATCH)
        condition = {"If-Match": if_match} if conditional and if_match is not None else {}
        try:
            return await self._answered(key, {**_headers(byte_range), **condition})
        except S3Refusal as error:
            refusal: StorageError = error
        except ObjectChanged as error:
            if not condition or (await self._client.head(key)).etag != if_match:
                raise
            refusal = error
        if byte_range is not None and isinstance(refusal, S3Refusal):
            size = (await self._client.head(key)).size
            clamped = byte_range.clamped(size)
            if clamped is None:
                raise RangeNotSatisfiable(key, BACKEND, size)
            if clamped != byte_range:
                return await self._answered(key, {**_headers(clamped), **condition})
        if not condition:
            try:
                raise refusal
            finally:
                del refusal  # its traceback leads to this frame: both would wait for the garbage collector
        response = await self._answered(key, _headers(byte_range))
        self._client.capabilities.lacks(Feature.IF_MATCH, f"refused: {refusal.detail}")
        return response

    async def _accept(self, key: str, response: aiohttp.ClientResponse, asked: ByteRange | None) -> Content:
        """Holds the head of a 200 or 206 against what was asked. Never trusts that a range was honoured."""
        arguments = (key, response.status, response.headers, response.content_length, asked)
        try:
            content = content_of(*arguments)
        except SizeUnknown:
            content = content_of(*arguments, (await self._client.head(key)).size)
        if content.skip or content.surplus:
            self._client.capabilities.lacks(Feature.RANGE, "answered with more than was asked for")
        return content

    async def _answered(self, key: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        attempt = 0
        mended = False
        while True:
            attempt += 1
            link, fresh = await self._links.get(key)
            generation = self._client.signing.generation
            try:
                response = await self._session.get(link, headers=headers, allow_redirects=False)
                if response.status in (200, 206):
                    return response
                refusal = await _read_refusal(response)
                error = self._client.explainer.refused(await self._error(key, response, refusal.code), refusal)
            except TimeoutError:
                raise
            except (aiohttp.ClientError, OSError) as failure:
                error = StorageUnavailable(key, BACKEND, f"get: {type(failure).__name__}")
                error = self._client.explainer.failed(error, failure)
            else:
                if not fresh and (refusal.status == 403 or refusal.code in STALE_CODES):
                    # The link has expired, or the credentials that signed it: sign again, once.
                    self._links.drop(key)
                    attempt -= 1
                    continue
                if not mended and await self._client.signing.mend(refusal, generation):
                    mended = True
                    attempt -= 1
                    continue
            if not error.retryable or attempt >= _ATTEMPTS:
                raise error
            await asyncio.sleep(_BACKOFF_SECONDS * attempt)

    async def _error(self, key: str, response: aiohttp.ClientResponse, code: str) -> StorageError:
        """What an answer that is neither 200 nor 206 means."""
        if response.status == 416:
            return await self._unsatisfied(key, response)
        if response.status == 403 and self._client.is_missing(code, response.status):
            return ObjectNotFound(key, BACKEND)
        if response.status < 400:
            return S3Refusal(key, BACKEND, f"get: unexpected status {response.status}")
        return translate(key, "get", code, response.status)

    async def _unsatisfied(self, key: str, response: aiohttp.ClientResponse) -> StorageError:
        match = _UNSATISFIED.fullmatch(response.headers.get("Content-Range", ""))
        size = int(match.group(1)) if match else (await self._client.head(key)).size
        return RangeNotSatisfiable(key, BACKEND, size)


class Answer:
    """A good answer whose body has not been read: what comes, and where from."""

    __slots__ = ("content", "response")

    def __init__(self, content: Content, response: aiohttp.ClientResponse) -> None:
        self.content = content
        self.response = response


class _Chunks:
    """The bytes of one read, over as many requests as it takes."""

    def __init__(self, reads: Reads, answer: Answer, served: ByteRange) -> None:
        self._reads = reads
        self._info = answer.content.info
        self._skip = answer.content.skip
        self._surplus = answer.content.surplus
        self._position = served.first
        self._end = served.first + served.length
        self._response: aiohttp.ClientResponse | None = answer.response
        self._rest = b""
        self._breaks = 0
        self._loop = asyncio.get_running_loop()
        self._waited = 0.0
        self._received = 0
        self._idle_since: float | None = self._loop.time()
        self._timer = self._loop.call_later(reads.stall_seconds, self._look)

    @property
    def connected(self) -> bool:
        return self._response is not None and self._response.connection is not None

    def __enter__(self) -> Self:
        self._reads.live.add(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._reads.live.discard(self)
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
            chunk = self._rest or await self._receive()
            self._rest = b""
            if len(chunk) > MAX_CHUNK_BYTES:
                chunk, self._rest = chunk[:MAX_CHUNK_BYTES], chunk[MAX_CHUNK_BYTES:]
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
                self._broken(error)
                continue
            self._waited += self._loop.time() - started
            self._received += len(chunk)
            if not chunk:
                self._broken(EOFError("the body ended early"))
                continue
            if self._waited > self._reads.deadline + self._received / self._reads.minimum_rate:
                raise StorageUnavailable(self._info.key, BACKEND, "the store sends too slowly")
            if self._skip or len(chunk) > self._end - self._position:
                chunk = self._cut(chunk)
            if chunk:
                return chunk

    def _cut(self, chunk: bytes) -> bytes:
        """Without what comes before and behind the bytes that were asked for."""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        chunk = chunk[skipped:]
        left = self._end - self._position
        if len(chunk) > left and not self._surplus:
            raise S3Refusal(self._info.key, BACKEND, "get: more bytes than announced")
        return chunk[:left]

    async def _response_bytes(self) -> bytes:
        response = self._response
        if response is None:
            raise aiohttp.ClientConnectionError("given back")
        # The pieces as they came off the socket, 256 KiB each when the store is fast: joining them costs more than it saves.
        chunk, _ = await response.content.readchunk()
        return chunk

    async def _reconnect(self) -> None:
        """Continue at the first byte that was not handed out, of the very same object."""
        info = self._info
        if info.etag == UNVERSIONED:
            raise StorageUnavailable(info.key, BACKEND, "cannot be continued: the store tells neither ETag nor date")
        wanted = ByteRange(self._position, self._end - 1)
        try:
            answer = await self._reads.request(info.key, wanted, info.etag)
        except RangeNotSatisfiable:
            raise ObjectChanged(info.key, BACKEND, "it is shorter now") from None
        self._response = answer.response
        self._skip, self._surplus = answer.content.skip, answer.content.surplus
        if answer.content.info.size != info.size:
            raise ObjectChanged(info.key, BACKEND, f"{info.size} bytes before, {answer.content.info.size} now")
        self._timer.cancel()
        self._timer = self._loop.call_later(self._reads.stall_seconds, self._look)

    def _broken(self, error: Exception) -> None:
        self._disconnect()
        self._breaks += 1
        if self._breaks > CONTINUATIONS:
            detail = f"the body broke {self._breaks} times: {type(error).__name__}"
            raise StorageUnavailable(self._info.key, BACKEND, detail) from error

    def _look(self) -> None:
        """Has the reader stalled? Then its connection is for others."""
        limit = self._reads.stall_seconds
        if not self.connected:
            return  # all of it has arrived: nothing is held but the memory of one buffer
        now = self._loop.time()
        idle = 0.0 if self._idle_since is None else now - self._idle_since
        if idle >= limit:
            self._disconnect()
            return
        self._timer = self._loop.call_later(limit - idle, self._look)

    def _disconnect(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


class _Links:
    """Signed links, made once per object and reused for a few minutes, or until something else is to be signed with."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._known: OrderedDict[str, tuple[URL, float, int]] = OrderedDict()

    async def get(self, key: str) -> tuple[URL, bool]:
        """The link, and whether it was made just now."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        generation = self._client.signing.generation
        if known and known[1] > now and known[2] == generation:
            self._known.move_to_end(key)
            return known[0], False
        # Encoded already, and signed so: it must reach the store unchanged.
        link = URL(await self._client.sign(key, _LINK_SECONDS), encoded=True)
        self._known[key] = (link, now + _LINK_REUSE_SECONDS, generation)
        self._known.move_to_end(key)
        while len(self._known) > _LINKS:
            self._known.popitem(last=False)
        return link, True

    def drop(self, key: str) -> None:
        self._known.pop(key, None)


async def open_reads(client: S3Client, settings: Settings) -> Reads:
    """Makes the pool; connects to nothing."""
    secure = settings.s3_endpoint is None or settings.s3_endpoint.startswith("https:")
    connector = aiohttp.TCPConnector(
        limit=settings.s3_connections,
        ssl=await asyncio.to_thread(tls_context) if secure else True,
        keepalive_timeout=_KEEP_ALIVE_SECONDS,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_RECEIVE_BYTES,
        proxy=proxy_for(client.address),
        timeout=aiohttp.ClientTimeout(
            total=None,
            sock_connect=min(_CONNECT_SECONDS, settings.s3_deadline),
            sock_read=settings.s3_deadline,
        ),
    )
    return Reads(client, session, settings.s3_deadline, settings.s3_minimum_rate)


async def _read_refusal(response: aiohttp.ClientResponse) -> Refusal:
    """Leaves the connection usable."""
    try:
        text = await response.content.read(_ERROR_BYTES)
    finally:
        response.release()
    code, message = _ERROR_CODE.search(text), _ERROR_MESSAGE.search(text)
    return Refusal(
        code=code.group(1).decode("ascii") if code else "",
        status=response.status,
        date=response.headers.get("Date", ""),
        message=unescape(message.group(1).decode("utf-8", "replace")) if message else "",
        region=response.headers.get("x-amz-bucket-region", ""),
    )


def _headers(byte_range: ByteRange | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range.first}-{'' if byte_range.last is None else byte_range.last}"
    return headers


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in ():
        yield chunk
