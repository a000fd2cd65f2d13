"""Checks an S3 store: makes every kind of call that the service makes, on scratch objects, and reports which features the store lacks."""

from __future__ import annotations

import os
import zlib
from datetime import UTC, datetime

from app.config import MEBIBYTE, Settings
from app.doctor.findings import ReportSection, UnexpectedResult, format_size
from app.doctor.s3_bucket_setup import check_bucket_setup
from app.doctor.scratch_objects import ScratchObjects, open_scratch_objects
from app.storage.errors import ObjectExists, ObjectNotFound, StorageError, StoragePermission, StorageUnavailable
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend
from app.storage.s3.batch_delete import delete_keys
from app.storage.s3.part_sizes import MINIMUM_PART_BYTES
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.responses import parse_http_date
from app.storage.s3.protocol.upload_body import UploadBody

SKEW_WARNING_SECONDS = 5.0
SKEW_FAILED_SECONDS = 300.0
LINK_SECONDS = 60
_SMALL = b"mediavault doctor " * 8
_METADATA = {"mediavault-doctor": "scratch"}


async def check_store(section: ReportSection, backend: S3Backend, settings: Settings) -> None:
    if not await section.run_check("answers", _check_reachable(backend)):
        section.skip("calls", "the store could not be asked")
        return
    async with open_scratch_objects(backend, section) as scratch:
        checks = S3CallChecks(section, backend, scratch)
        if await section.run_check("put", checks.put()):
            await checks.run()
            await check_bucket_setup(section, backend, settings, scratch)
            _report_missing_features(section, backend)
        else:
            section.skip("other calls", "nothing could be written")


async def _check_reachable(backend: S3Backend) -> str:
    """Returns the endpoint. Raises `StorageUnavailable` only: missing permissions are reported by the calls that need them."""
    try:
        await backend.client.head(ScratchObjects().create_key("answers"))
    except StorageUnavailable:
        raise
    except StorageError:
        pass
    return backend.client.endpoint


class S3CallChecks:
    """Each method is one check. It returns the detail of its finding, or raises `UnexpectedResult` or `StorageError`."""

    def __init__(self, section: ReportSection, backend: S3Backend, scratch: ScratchObjects) -> None:
        self._section = section
        self._backend = backend
        self._client = backend.client
        self._scratch = scratch
        self._object = scratch.create_key("object")

    async def run(self) -> None:
        run_check = self._section.run_check
        await self._backend.feature_probe.probe_all()
        await run_check("head", self._head())
        await run_check("get by signed link", self._get())
        await run_check("ranges", self._ranges())
        await self._check_clock()
        await self._conditional_put()
        await run_check("multipart", self._multipart())
        await run_check("abort, list uploads", self._abort())
        await run_check("copy", self._copy())
        await run_check("list, paging, order", self._list())
        await run_check("delete", self._delete())
        await run_check("batch delete", self._batch_delete())

    async def put(self) -> str:
        await self._put_object(self._object, _SMALL)
        return format_size(len(_SMALL))

    async def _put_object(self, key: str, data: bytes, *, once: bool = False) -> None:
        body = UploadBody(data, with_checksum=self._client.sends_own_checksums)
        await self._client.put(key, body, content_type="image/jpeg", metadata=_METADATA, if_absent=once)

    async def _head(self) -> str:
        info = await self._client.head(self._object)
        if info.size != len(_SMALL):
            raise UnexpectedResult(f"{info.size} bytes, {len(_SMALL)} were written")
        if info.metadata.get("mediavault-doctor") != "scratch":
            raise UnexpectedResult("metadata is not kept", "lost answers to writes cannot be settled on this store")
        if info.content_type != "image/jpeg":
            raise UnexpectedResult(f"the type is {info.content_type}, image/jpeg was written")
        return f"size, type and metadata, ETag {info.etag[:40]}"

    async def _read_object(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        async with self._backend.reader.open(key, byte_range, None) as stream:
            return b"".join([chunk async for chunk in stream.chunks])

    async def _get(self) -> str:
        if await self._read_object(self._object) != _SMALL:
            raise UnexpectedResult("other bytes than were written")
        return "the same bytes"

    async def _ranges(self) -> str:
        for first, last in ((0, 0), (10, 29), (len(_SMALL) - 1, len(_SMALL) - 1), (5, 5000)):
            if await self._read_object(self._object, ByteRange(first, last)) != _SMALL[first : last + 1]:
                raise UnexpectedResult(f"other bytes than those of {first}-{last}")
        return "first, middle, last, past the end"

    async def _check_clock(self) -> None:
        before = datetime.now(UTC)
        try:
            _, headers, _ = await self._backend.reader.fetch_link(
                await self._client.presign_get(self._object, LINK_SECONDS), {}
            )
        except StorageError as error:
            self._section.fail("clock", error.detail, error.hint)
            return
        date = parse_http_date(headers.get("Date"))
        if date is None:
            self._section.skip("clock", "the store sends no Date")
            return
        middle = before + (datetime.now(UTC) - before) / 2
        seconds = (date - middle).total_seconds()
        offset = f"the store's is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
        if abs(seconds) >= SKEW_FAILED_SECONDS:
            self._section.fail("clock", offset, "set the clocks of both by NTP: signatures of a wrong time are refused")
        elif abs(seconds) >= SKEW_WARNING_SECONDS:
            self._section.warn("clock", offset, "set the clocks of both by NTP")
        else:
            self._section.ok("clock", "within a few seconds of the store's")

    async def _conditional_put(self) -> None:
        """Puts to a key that exists. `probe_all` has found out before whether the store obeys the condition."""
        try:
            await self._put_object(self._object, b"another", once=True)
        except ObjectExists:
            if self._client.capabilities.has(S3Feature.CONDITIONAL_PUT):
                self._section.ok("conditional put", "an existing key is not replaced")
                return
        except StorageError as error:
            self._section.fail("conditional put", error.detail, error.hint)
            return
        self._section.skip("conditional put", "the store lacks it: a key is asked for before each write")

    async def _multipart(self) -> str:
        """Writes two parts as an upload does, with CompleteMultipartUpload and the comparison that follows it."""
        key = self._scratch.create_key("multipart")
        piece = os.urandom(64 * 1024)
        data = piece * (MINIMUM_PART_BYTES // len(piece)) + b"the last part"
        writer = self._backend.uploads.create_writer(key, size=len(data), content_type=None, metadata=_METADATA)
        try:
            await writer.write(data)
            await writer.commit()
        finally:
            await writer.discard()
        info = await self._client.head(key, with_checksum=True)
        if info.crc32 is not None and info.crc32 != zlib.crc32(data):
            raise UnexpectedResult("the store's CRC-32 is another one than that of what was written")
        edge = ByteRange(MINIMUM_PART_BYTES - 5, MINIMUM_PART_BYTES + 5)
        if await self._read_object(key, edge) != data[edge.first : MINIMUM_PART_BYTES + 6]:
            raise UnexpectedResult("other bytes than were written, where two parts meet")
        kept = "CRC-32 compared" if info.crc32 is not None else "the store keeps no CRC-32 of the whole object"
        return f"two parts of {MINIMUM_PART_BYTES // MEBIBYTE} MiB and less, {kept}"

    async def _abort(self) -> str:
        key = self._scratch.create_key("abort")
        upload_id = await self._client.create_upload(key, content_type=None, metadata={})
        try:
            await self._client.upload_part(
                key, upload_id, 1, UploadBody(_SMALL, with_checksum=self._client.sends_own_checksums)
            )
            listed = await self._list_unfinished_uploads()
        except StoragePermission as error:
            hint = "unfinished ones are not swept: give the right, or set the lifecycle rule of docs/s3.md that aborts them"
            self._section.warn("list uploads", error.detail, hint)
            return "aborted; those that are unfinished may not be listed"
        finally:
            await self._client.abort(key, upload_id)
        if not self._client.capabilities.has(S3Feature.LIST_UPLOADS):
            return "aborted; the store lists no uploads"
        if key not in listed:
            raise UnexpectedResult(
                "an upload is not listed", "unfinished ones are not swept: set a lifecycle rule that aborts them"
            )
        if key in await self._list_unfinished_uploads():
            raise UnexpectedResult("an aborted upload is still listed")
        return "listed, and gone when aborted"

    async def _list_unfinished_uploads(self) -> set[str]:
        return {key for upload in (await self._client.list_uploads(None)).items for key in upload.keys}

    async def _copy(self) -> str:
        target = self._scratch.create_key("copy")
        info = await self._client.head(self._object)
        await self._client.copy(self._object, target, info, {**info.metadata, "copied": "yes"})
        copied = await self._client.head(target)
        if await self._read_object(target) != _SMALL or copied.metadata.get("copied") != "yes":
            raise UnexpectedResult("the copy has other bytes, or other metadata than were asked for")
        return "bytes, type and metadata"

    async def _list(self) -> str:
        keys = [self._scratch.create_key(f"list {name}") for name in ("ä", "a", "B", "a+b", "a%2Fb")]
        for key in keys:
            await self._put_object(key, b"x")
        prefix = f"{self._scratch.prefix}list "
        paged, tokens = await self._list_pages(prefix, len(keys))
        if sorted(paged) != sorted(keys):
            raise UnexpectedResult(f"{len(paged)} of {len(keys)} objects are listed, or under other names")
        later = [item.key for item in (await self._client.list_page(prefix, None, start_after=paged[1])).items]
        after = "start-after" if later == paged[2:] else "no start-after"
        order = "byte order" if paged == sorted(paged, key=str.encode) else "an order of its own"
        return f"{len(keys)} odd names, {'pages of 2' if tokens else 'no token for a next page'}, {after}, {order}"

    async def _list_pages(self, prefix: str, count: int) -> tuple[list[str], bool]:
        """The keys, listed two a page, and whether the store returns a token for the next page."""
        keys: list[str] = []
        following: tuple[str, ...] | None = None
        while len(keys) <= count:
            page = await self._client.list_page(prefix, following, limit=2)
            keys += [item.key for item in page.items]
            if page.next_marker == ("",):
                return [item.key for item in (await self._client.list_page(prefix, None)).items], False
            if (following := page.next_marker) is None:
                break
        return keys, True

    async def _delete(self) -> str:
        key = self._scratch.create_key("delete")
        await self._put_object(key, b"x")
        await self._client.delete(key)
        await self._check_deleted([key])
        await self._client.delete(key)
        return "gone, and a second one is no error"

    async def _batch_delete(self) -> str:
        keys = [self._scratch.create_key(f"batch-{number}") for number in range(3)]
        for key in keys:
            await self._put_object(key, b"x")
        failed = await delete_keys(self._client, keys)
        for error in failed.values():
            raise error
        await self._check_deleted(keys)
        batched = self._client.capabilities.has(S3Feature.BATCH_DELETE)
        return "in one request" if batched else "one by one: the store has no batches"

    async def _check_deleted(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self._client.head(key)
            except ObjectNotFound:
                continue
            raise UnexpectedResult("an object is still there after it was deleted")


def _report_missing_features(section: ReportSection, backend: S3Backend) -> None:
    missing = backend.client.capabilities.missing
    for feature, reason in missing.items():
        section.warn(f"lacks {feature.value}", f"{reason}; the service works without it")
    if not missing:
        section.ok("features of S3", "nothing that is used is missing")
