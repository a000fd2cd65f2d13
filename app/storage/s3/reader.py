"""`S3Reader`: reads objects by signed GETs, on its own connection pool, so that downloads never starve uploads or health checks.

The SDK only signs: one link per object, reused for a few minutes. The bytes do not pass through the SDK. When the connection breaks, or is
given to others (`ReadConnections`), the read continues at the current offset over another one. A client that stalls has none. Each
continuation uses `Range` and `If-Match`, so that all bytes are those of the object that the read began with.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from html import unescape
from types import TracebackType
from typing import Protocol

import aiohttp
from yarl import URL

from app.config import Settings
from app.storage.backend import ObjectStream, is_strong
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StorageError, StorageUnavailable
from app.storage.ranges import ByteRange
from app.storage.s3.content_range import RangeContent, SizeUnknown, check_content_range
from app.storage.s3.http.client import KEEP_ALIVE_SECONDS, HttpClient, RequestTarget
from app.storage.s3.http.proxied import ProxiedClient
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused, translate_s3_error
from app.storage.s3.protocol.sdk import find_proxy, make_tls_context
from app.storage.s3.protocol.signed_links import SignedLinks
from app.storage.s3.protocol.signing import STALE_CREDENTIAL_CODES, ErrorResponse
from app.storage.s3.reads.ahead import SMALLEST_REST, AheadBudget, ReadAhead
from app.storage.s3.reads.chunks import BodyResponse, ReadChunks, ReadResponse
from app.storage.s3.reads.connections import ReadConnection, ReadConnections

STALL_SECONDS = 10.0
_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.2
_RECEIVE_BYTES = 256 * 1024
_CONNECT_SECONDS = 10.0
_ERROR_BYTES = 64 * 1024
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,64})</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]{1,4096})</Message>")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,19})")


class GetResponse(BodyResponse, Protocol):
    """The response to a GET, see `HttpResponse`."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content_length(self) -> int | None: ...

    async def read_all(self, limit: int) -> bytes: ...


class HttpGetter(Protocol):
    """Sends GETs: `HttpClient`, or `ProxiedClient` where the environment names a proxy."""

    async def get(self, target: RequestTarget, headers: Mapping[str, str]) -> GetResponse: ...

    async def aclose(self) -> None: ...


class S3Reader:
    """All reads of one backend. `connections` limits their number; further reads wait, at most `deadline` seconds."""

    def __init__(
        self,
        client: S3Client,
        http: HttpGetter,
        session: aiohttp.ClientSession,
        connections: ReadConnections,
        deadline: float,
        minimum_rate: int,
    ) -> None:
        self._client = client
        self._http = http
        self._session = session
        self._links = SignedLinks(client)
        self.connections = connections
        self.deadline = deadline
        self.minimum_rate = minimum_rate
        self.ahead_budget = AheadBudget()
        self.stall_seconds = STALL_SECONDS
        self.open_reads: set[ReadChunks] = set()
        self.on_retry: Callable[[], None] = lambda: None
        """Called before a request that repeats another one, or continues one that broke."""

    @property
    def connections_in_use(self) -> int:
        """Number of connections that carry a read now."""
        return sum(chunks.is_connected for chunks in self.open_reads)

    @property
    def spare_connections(self) -> ReadConnections:
        return self.connections

    @property
    def keeps_ranges(self) -> bool:
        """True where the store answers a range with that range, so that a read can be continued at no cost."""
        return self._client.capabilities.has(S3Feature.RANGE)

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._session.close()

    def forget_link(self, key: str) -> None:
        """Drop the cached link of an object that will not be read again."""
        self._links.evict(key)

    def open(
        self, key: str, byte_range: ByteRange | None, if_match: str | None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """See `StorageBackend.read_stream`."""
        return _OpenRead(self, key, byte_range, if_match)

    def may_read_ahead(self, content: RangeContent) -> bool:
        is_long = content.served is not None and content.served.length >= SMALLEST_REST
        return is_long and self.keeps_ranges and is_strong(content.info.etag)

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
        connection: ReadConnection | None = None
        try:
            async with asyncio.timeout(self.deadline):
                connection = await self.connections.acquire()
                response = await self._get_with_fallbacks(key, byte_range, if_match)
                try:
                    content = await self._check_response(key, response, byte_range)
                    if if_match is not None and content.info.etag != if_match:
                        raise ObjectChanged(key, BACKEND, f"etag {if_match} expected, {content.info.etag} found")
                except BaseException:
                    response.close()
                    raise
                return ReadResponse(content, response, connection)
        except BaseException as error:
            if connection is not None:
                connection.release()
            if not isinstance(error, TimeoutError):
                raise
        missing = "answer" if connection else "connection"
        if connection is None:
            self.connections.refused_total += 1
        raise StorageUnavailable(key, BACKEND, f"no {missing} within {self.deadline:.0f} s")

    async def _get_with_fallbacks(self, key: str, byte_range: ByteRange | None, if_match: str | None) -> GetResponse:
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

    async def _check_response(self, key: str, response: GetResponse, requested: ByteRange | None) -> RangeContent:
        """Compares the headers of a 200 or 206 with the request. Never trusts that a range was honoured."""
        arguments = (key, response.status, response.headers, response.content_length, requested)
        try:
            content = check_content_range(*arguments)
        except SizeUnknown:
            content = check_content_range(*arguments, (await self._client.head(key)).size)
        if content.skip_bytes or content.has_surplus:
            self._client.capabilities.mark_missing(S3Feature.RANGE, "answered with more than was asked for")
        return content

    async def _get_with_retries(self, key: str, headers: dict[str, str]) -> GetResponse:
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            link, fresh = await self._links.get(key)
            generation = self._client.signing.generation
            try:
                response = await self._http.get(link, headers)
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
            self.on_retry()
            await asyncio.sleep(_BACKOFF_SECONDS * attempt)

    async def _to_storage_error(self, key: str, response: GetResponse, code: str) -> StorageError:
        """The error for a response that is neither 200 nor 206."""
        if response.status == 416:
            return await self._range_error(key, response)
        if response.status == 403 and self._client.means_missing_object(code, response.status):
            return ObjectNotFound(key, BACKEND)
        if response.status < 400:
            return S3RequestRefused(key, BACKEND, f"get: unexpected status {response.status}")
        return translate_s3_error(key, "get", code, response.status)

    async def _range_error(self, key: str, response: GetResponse) -> StorageError:
        match = _UNSATISFIED_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        size = int(match.group(1)) if match else (await self._client.head(key)).size
        return RangeNotSatisfiable(key, BACKEND, size)


class _OpenRead:
    """One read, from its first request to its end. A class, because a generator would cost each request more time."""

    __slots__ = ("_ahead", "_chunks", "_reader", "_request")

    def __init__(self, reader: S3Reader, key: str, byte_range: ByteRange | None, if_match: str | None) -> None:
        self._reader = reader
        self._request = (key, byte_range, if_match)
        self._chunks: ReadChunks | None = None
        self._ahead: ReadAhead | None = None

    async def __aenter__(self) -> ObjectStream:
        reader = self._reader
        reply = await reader.send_get(*self._request)
        content = reply.content
        if content.served is None:
            reply.response.close()
            reply.connection.release()
            return ObjectStream(content.info, None, _no_chunks())
        chunks = self._chunks = ReadChunks(reader, reply, content.served)
        chunks.__enter__()
        if not reader.may_read_ahead(content):
            return ObjectStream(content.info, content.served, chunks)
        self._ahead = ReadAhead(reader, chunks, content.info, content.served)
        return ObjectStream(content.info, content.served, self._ahead)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._ahead is not None:
                await self._ahead.aclose()
        finally:
            if self._chunks is not None:
                self._chunks.__exit__(kind, error, trace)


async def open_reader(client: S3Client, settings: Settings) -> S3Reader:
    """Makes the connection pool; opens no connection yet."""
    secure = settings.s3_endpoint is None or settings.s3_endpoint.startswith("https:")
    tls = await asyncio.to_thread(make_tls_context) if secure else None
    connector = aiohttp.TCPConnector(
        limit=settings.s3_connections, ssl=tls or True, keepalive_timeout=KEEP_ALIVE_SECONDS
    )
    proxy = find_proxy(client.endpoint)
    connect_seconds = min(_CONNECT_SECONDS, settings.s3_deadline)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=_RECEIVE_BYTES,
        proxy=proxy,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=settings.s3_deadline),
    )
    http: HttpGetter = ProxiedClient(session)
    if proxy is None:
        http = HttpClient(
            tls, max_idle=settings.s3_connections, connect_seconds=connect_seconds, read_seconds=settings.s3_deadline
        )
    connections = ReadConnections(settings.s3_connections)
    return S3Reader(client, http, session, connections, settings.s3_deadline, settings.s3_minimum_rate)


async def _read_error_response(response: GetResponse) -> ErrorResponse:
    """Reads and parses the body of an error; the connection stays usable."""
    try:
        text = await response.read_all(_ERROR_BYTES)
    finally:
        response.close()
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
