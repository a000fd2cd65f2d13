"""`S3Client`: the S3 operations as typed methods over the SDK, which has no types.

Every call has a deadline and raises only `StorageError`s. Keys are passed and returned without the prefix. The client does not decide what a
response means for a read or a write: `reader` and `writer` do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any
from urllib.parse import unquote_plus

import aiohttp

from app.config import Settings
from app.storage.backend import is_strong
from app.storage.errors import ObjectExists, ObjectNotFound, StorageUnavailable
from app.storage.s3.protocol import responses
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.optional_fields import OptionalFields
from app.storage.s3.protocol.responses import (
    BatchDeleteResult,
    HeadResult,
    ListedObject,
    ListingPage,
    UnfinishedUpload,
    UploadedPart,
    require_field,
)
from app.storage.s3.protocol.sdk import make_client, uses_own_checksums
from app.storage.s3.protocol.transport import RangeOutside, S3Transport
from app.storage.s3.protocol.upload_body import UploadBody

_READ_BYTES = 256 * 1024
_SIZE_IN_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d{1,19})")


class S3Client(S3Transport):
    """One bucket and prefix of one store. Made by `connect_client`."""

    async def head(self, key: str, *, timeout_seconds: float | None = None, with_checksum: bool = False) -> HeadResult:
        """Raises `ObjectNotFound`, also for a missing bucket: a HEAD does not tell these apart (see `check_readable`). With
        `with_checksum` the store's own checksum is requested too."""
        checksum_mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if with_checksum else {}
        answer = await self._call(
            "head_object", key, timeout_seconds=timeout_seconds, Key=self.add_prefix(key), **checksum_mode
        )
        size = answer.get("ContentLength")
        if size is None:
            self.capabilities.mark_missing(S3Feature.HEAD_LENGTH, "a HEAD was answered without it")
        if size is None or not self.capabilities.has(S3Feature.HEAD_LENGTH):
            size = await self.read_size(key)
        for name, feature in (("ETag", S3Feature.ETAG), ("LastModified", S3Feature.LAST_MODIFIED)):
            if not answer.get(name):
                self.capabilities.mark_missing(feature, "a HEAD was answered without it")
        return responses.parse_head(answer, size)

    async def read_size(self, key: str) -> int:
        """The size by a GET of one byte; where the store does not say whether it sent that range, by a GET without a range."""
        try:
            answer = await self._call("get_object", key, Key=self.add_prefix(key), Range="bytes=0-0")
        except RangeOutside:
            return 0
        answer["Body"].close()
        if match := _SIZE_IN_RANGE.fullmatch(answer.get("ContentRange") or ""):
            return int(match[1])
        if answer.get("ContentLength") in (None, 1):
            answer = await self._call("get_object", key, Key=self.add_prefix(key))
            answer["Body"].close()
        return int(require_field(answer, "ContentLength", key, "get_object"))

    async def check_key_free(self, key: str) -> None:
        """Raises `ObjectExists` where the key is taken now."""
        try:
            await self.head(key)
        except ObjectNotFound:
            return
        raise ObjectExists(key, BACKEND)

    async def read_prefix(self, key: str, length: int) -> bytes:
        """The first `length` bytes, or fewer where the object is shorter."""
        async with aclosing(self.read_pieces(key, length)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def read_pieces(self, key: str, length: int) -> AsyncGenerator[bytes]:
        """As `read_prefix`, in pieces. Not on `S3Reader`'s connections, which downloads may occupy; without a range, because some stores
        refuse a range that is longer than the object. Close the generator: it holds a connection."""
        answer = await self._call("get_object", key, Key=self.add_prefix(key))
        body, left = answer["Body"], length
        end = asyncio.get_running_loop().time() + self._deadline + length / self._rate
        try:
            while left > 0:
                async with asyncio.timeout_at(end):
                    piece = await body.read(min(left, _READ_BYTES))
                if not piece:
                    return
                left -= len(piece)
                yield piece
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable(key, BACKEND, f"get_object: {type(error).__name__}") from error
        finally:
            body.close()

    async def put(
        self, key: str, body: UploadBody, *, content_type: str | None, metadata: Mapping[str, str], if_absent: bool
    ) -> None:
        """Raises `ObjectExists` where `if_absent` is asked and the key is taken."""
        await self._call_with_options(
            "put_object",
            key,
            [
                _checksum_field(S3Feature.PUT_CHECKSUM, body.crc32_base64),
                self._if_absent_field(S3Feature.CONDITIONAL_PUT, key, if_absent),
            ],
            len(body),
            if_absent=if_absent,
            Key=self.add_prefix(key),
            Body=body,
            ContentLength=len(body),
            **_metadata_fields(content_type, metadata),
            **self._encryption,
        )

    async def create_upload(
        self, key: str, *, content_type: str | None, metadata: Mapping[str, str], with_checksums: bool = True
    ) -> str:
        """Begin a multipart upload and return its id. `with_checksums` requests a checksum over the whole object."""
        algorithm = OptionalFields(S3Feature.MULTIPART_CHECKSUM, {"ChecksumAlgorithm": "CRC32"})
        whole = OptionalFields(
            S3Feature.FULL_OBJECT_CHECKSUM, {"ChecksumType": "FULL_OBJECT"}, requires=S3Feature.MULTIPART_CHECKSUM
        )
        answer = await self._call_with_options(
            "create_multipart_upload",
            key,
            [whole, algorithm] if with_checksums else [],
            Key=self.add_prefix(key),
            **_metadata_fields(content_type, metadata),
            **self._encryption,
        )
        return str(require_field(answer, "UploadId", key, "create_multipart_upload"))

    async def upload_part(self, key: str, upload_id: str, number: int, body: UploadBody) -> UploadedPart:
        answer = await self._call_with_options(
            "upload_part",
            key,
            [_checksum_field(S3Feature.PART_CHECKSUM, body.crc32_base64)],
            len(body),
            Key=self.add_prefix(key),
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=len(body),
        )
        sent = body.crc32_base64 if self.capabilities.has(S3Feature.PART_CHECKSUM) else None
        return responses.parse_part(answer, number, sent, key, "upload_part")

    async def complete(
        self, key: str, upload_id: str, parts: Sequence[UploadedPart], *, size: int, if_absent: bool
    ) -> None:
        """Raises `ObjectExists` where `if_absent` is asked and the key is taken. `size` (bytes) only extends the deadline."""
        plain_parts = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        options: list[OptionalFields | None] = []
        if all(part.crc32 for part in parts):
            checked_parts = [
                entry | {"ChecksumCRC32": part.crc32} for entry, part in zip(plain_parts, parts, strict=True)
            ]
            fields = {"MultipartUpload": {"Parts": checked_parts}}
            options.append(OptionalFields(S3Feature.COMPLETE_CHECKSUM, fields, requires=S3Feature.MULTIPART_CHECKSUM))
        options.append(self._if_absent_field(S3Feature.CONDITIONAL_COMPLETE, key, if_absent))
        await self._call_with_options(
            "complete_multipart_upload",
            key,
            options,
            size,
            if_absent=if_absent,
            Key=self.add_prefix(key),
            UploadId=upload_id,
            MultipartUpload={"Parts": plain_parts},
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """Abort a multipart upload. Idempotent: a missing upload is no error."""
        try:
            await self._call("abort_multipart_upload", key, Key=self.add_prefix(key), UploadId=upload_id)
        except ObjectNotFound:
            return

    async def copy(self, source: str, target: str, source_head: HeadResult, metadata: Mapping[str, str]) -> None:
        """Copy within the store, with the source's content type and with `metadata`. Raises `ObjectChanged` where the source is no longer `source_head`,
        `ObjectExists` where the target is taken and the store has conditional copies."""
        await self._call_with_options(
            "copy_object",
            target,
            [_source_match_field(source_head.etag), self._if_absent_field(S3Feature.CONDITIONAL_COPY, target, True)],
            source_head.size,
            if_absent=True,
            Key=self.add_prefix(target),
            CopySource=self._copy_source(source),
            MetadataDirective="REPLACE",
            **_metadata_fields(source_head.content_type, metadata),
            **self._encryption,
        )

    async def copy_part(
        self, source: str, target: str, upload_id: str, number: int, first: int, last: int, etag: str
    ) -> UploadedPart:
        answer = await self._call_with_options(
            "upload_part_copy",
            target,
            [_source_match_field(etag)],
            last - first + 1,
            Key=self.add_prefix(target),
            UploadId=upload_id,
            PartNumber=number,
            CopySource=self._copy_source(source),
            CopySourceRange=f"bytes={first}-{last}",
        )
        return responses.parse_part(answer.get("CopyPartResult", {}), number, None, target, "upload_part_copy")

    async def delete(self, key: str) -> None:
        """Idempotent: a missing object is no error."""
        try:
            await self._call("delete_object", key, Key=self.add_prefix(key))
        except ObjectNotFound:
            return

    async def delete_batch(self, keys: Sequence[str]) -> BatchDeleteResult:
        """Delete at most 1,000 keys. Does not use quiet mode: the response must name the deleted keys."""
        names = {self.add_prefix(key): key for key in keys}
        objects = [{"Key": name} for name in names]
        answer = await self._call("delete_objects", keys[0], Delete={"Objects": objects})
        outcome = responses.parse_batch_delete(answer)
        return BatchDeleteResult(
            frozenset(names[name] for name in outcome.deleted if name in names),
            {names.get(name, ""): code for name, code in outcome.failed.items()},
        )

    async def list_page(
        self, prefix: str, marker: tuple[str, ...] | None, *, start_after: str | None = None, limit: int = 1000
    ) -> ListingPage[ListedObject]:
        """Objects whose key starts with `prefix` (as text; end it with `/` to mean a folder)."""
        answer = await self._list(prefix, marker, start_after, limit)
        decode = self.decode_key or (unquote_plus if answer.get("EncodingType") == "url" else str)
        items = responses.parse_listing(answer, self._prefix, prefix, decode)
        ambiguous = any("%" in item["Key"] or "+" in item["Key"] for item in answer.get("Contents", ()))
        if not answer.get("IsTruncated"):
            return ListingPage(items, None, ambiguous)
        return ListingPage(items, (answer.get("NextContinuationToken", ""),), ambiguous)

    async def list_raw_keys(self, prefix: str, *, start_after: str | None = None) -> tuple[list[str], bool]:
        """Full keys of one page, not decoded, and whether the response declares an encoding."""
        answer = await self._list(prefix, None, start_after, 1000)
        return [item.get("Key", "") for item in answer.get("Contents", ())], answer.get("EncodingType") == "url"

    async def _list(
        self, prefix: str, marker: tuple[str, ...] | None, start_after: str | None, limit: int
    ) -> dict[str, Any]:
        # With an explicit EncodingType the SDK does not decode: some stores declare an encoding that they do not apply.
        params: dict[str, Any] = {"Prefix": self._prefix + prefix, "MaxKeys": limit, "EncodingType": "url"}
        if marker:
            params["ContinuationToken"] = marker[0]
        after = None
        if start_after is not None and not marker:
            after = OptionalFields(S3Feature.START_AFTER, {"StartAfter": self._prefix + start_after})
        return await self._call_with_options("list_objects_v2", prefix, [after], **params)

    async def list_uploads(self, marker: tuple[str, ...] | None, prefix: str = "") -> ListingPage[UnfinishedUpload]:
        """Multipart uploads whose key starts with `prefix` and that were neither completed nor aborted; empty where the store cannot list
        them."""
        if not self.capabilities.has(S3Feature.LIST_UPLOADS):
            return ListingPage((), None)
        extra: dict[str, Any] = {}
        if marker:
            extra = {"KeyMarker": marker[0], "UploadIdMarker": marker[1]}
        try:
            answer = await self._call(
                "list_multipart_uploads", "", Prefix=self._prefix + prefix, EncodingType="url", **extra
            )
        except (S3RequestRefused, ObjectNotFound) as error:
            self.capabilities.mark_missing(S3Feature.LIST_UPLOADS, f"refused: {error.detail}")
            return ListingPage((), None)
        page = responses.parse_unfinished_uploads(answer, self._prefix)
        # A store whose pages repeat or go back would be listed for ever.
        following = page.next_marker
        is_last = marker is not None and following is not None and (following == marker or following[0] < marker[0])
        return ListingPage(page.items, None) if is_last else page

    async def check_upload(self, key: str, upload_id: str) -> None:
        """Raises `ObjectNotFound` where the multipart upload is missing. Returns also where the store cannot list its parts."""
        with suppress(S3RequestRefused):
            await self._call("list_parts", key, Key=self.add_prefix(key), UploadId=upload_id, MaxParts=1)

    async def presign_get(
        self, key: str, seconds: int, *, content_type: str | None = None, disposition: str | None = None
    ) -> str:
        """A link for a GET that is valid for `seconds`, or until its credentials expire."""
        params = {"Bucket": self._bucket, "Key": self.add_prefix(key)}
        if content_type is not None:
            params["ResponseContentType"] = content_type
        if disposition is not None:
            params["ResponseContentDisposition"] = disposition
        return str(
            await self._run(
                "sign", key, self._deadline, "generate_presigned_url", "get_object", Params=params, ExpiresIn=seconds
            )
        )

    async def call_operation(self, operation: str, key: str = "", **params: Any) -> Mapping[str, Any]:
        """Any other operation of the SDK, for `mediavault doctor`; with `key` where given."""
        return await self._call(operation, key, **({"Key": self.add_prefix(key)} if key else {}), **params)

    def _copy_source(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self.add_prefix(key)}

    def _if_absent_field(self, feature: S3Feature, key: str, if_absent: bool) -> OptionalFields | None:
        """The condition that the key is free; without it, a HEAD right before the request checks the key."""
        return (
            OptionalFields(feature, {"IfNoneMatch": "*"}, before_omitting=lambda: self.check_key_free(key))
            if if_absent
            else None
        )


async def connect_client(settings: Settings) -> S3Client:
    """Sends no request to the store, but may fetch the credentials of a role. Raises `StorageError`."""
    resources = AsyncExitStack()
    sdk, signing = await make_client(settings, resources)
    return S3Client(sdk, signing, resources, settings, sends_own_checksums=uses_own_checksums(settings))


def _metadata_fields(content_type: str | None, metadata: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"Metadata": dict(metadata)}
    if content_type is not None:
        fields["ContentType"] = content_type
    return fields


def _checksum_field(feature: S3Feature, crc32: str | None) -> OptionalFields | None:
    return OptionalFields(feature, {"ChecksumCRC32": crc32}) if crc32 else None


def _source_match_field(etag: str) -> OptionalFields | None:
    return OptionalFields(S3Feature.COPY_SOURCE_MATCH, {"CopySourceIfMatch": etag}) if is_strong(etag) else None
