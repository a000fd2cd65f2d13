"""S3's calls as typed methods: the only module that touches the SDK, which has no types of its own.

Every call runs under a deadline of ours, every failure leaves as a `StorageError`, and every key is given and
reported without the prefix. What a call means for a write or a read is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_plus

import aiohttp

from app.config import Settings
from app.storage.errors import (
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import MAX_KEY_BYTES
from app.storage.s3.body import Body, whole_crc32
from app.storage.s3.capabilities import Capabilities
from app.storage.s3.errors import BACKEND, is_denied, is_unsupported, translate
from app.storage.s3.sdk import Failed, NoCredentials, Refused, make_client, refusal, uses_own_checksums

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """What a HEAD tells of an object."""

    size: int
    etag: str
    last_modified: datetime
    content_type: str | None
    metadata: Mapping[str, str]
    crc32: int | None
    """Of the whole object, as the store computed it; None where it keeps none, or was not asked."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; `key` is without the prefix."""

    key: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a listing; `following` is what asks for the next part, None at the end."""

    items: Sequence[T]
    following: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store has taken."""

    number: int
    etag: str
    crc32: str | None


class S3Client:
    """One bucket and prefix of one store. Made by `connect`."""

    def __init__(self, sdk: Any, resources: AsyncExitStack, settings: Settings, *, own_checksums: bool) -> None:
        self._sdk = sdk
        self._resources = resources
        self._bucket = settings.s3_bucket or ""
        self._prefix = f"{settings.s3_prefix}/" if settings.s3_prefix else ""
        self._deadline = settings.s3_deadline
        self._rate = settings.s3_minimum_rate
        self._denied_is_missing = settings.s3_forbidden_is_missing
        self._encryption: dict[str, Any] = {}
        if settings.s3_sse:
            self._encryption["ServerSideEncryption"] = settings.s3_sse.value
        if settings.s3_sse_kms_key_id:
            self._encryption["SSEKMSKeyId"] = settings.s3_sse_kms_key_id
        self._conditional = True
        self.own_checksums = own_checksums
        self.capabilities = Capabilities()

    @property
    def sdk(self) -> Any:
        """The SDK's client, for its events."""
        return self._sdk

    @property
    def address(self) -> str:
        """Where the store is, for choosing a proxy."""
        return str(self._sdk.meta.endpoint_url)

    async def aclose(self) -> None:
        await self._resources.aclose()

    def full_key(self, key: str) -> str:
        """With the prefix. Raises `InvalidKey` where that is longer than S3 allows."""
        full = self._prefix + key
        if len(full.encode("utf-8")) > MAX_KEY_BYTES:
            raise InvalidKey(key, BACKEND, f"longer than {MAX_KEY_BYTES} bytes with the prefix")
        return full

    async def head(self, key: str, *, limit: float | None = None, checksum: bool = False) -> Found:
        """Raises `ObjectNotFound`, also where it is the bucket that is missing: a HEAD does not tell (see `explain`).
        With `checksum` the store is asked for its own, too."""
        wish: dict[str, Any] = {"ChecksumMode": "ENABLED"} if checksum else {}
        answer = await self._call("head_object", key, limit=limit, Key=self.full_key(key), **wish)
        return Found(
            size=answer["ContentLength"],
            etag=answer["ETag"],
            last_modified=answer["LastModified"],
            content_type=answer.get("ContentType"),
            metadata=answer.get("Metadata", {}),
            crc32=whole_crc32(answer.get("ChecksumCRC32"), answer.get("ChecksumType")),
        )

    async def explain(self, key: str) -> None:
        """Ask for one byte of what a HEAD refused: the answer to a GET says why. Raises that; returns if there is an object."""
        try:
            answer = await self._call("get_object", key, Key=self.full_key(key), Range="bytes=0-0")
        except _NoSuchRange:
            return
        answer["Body"].close()

    async def get_start(self, key: str, length: int) -> bytes:
        """The first `length` bytes, or as many as there are. Not on the connections of reads, which downloads may have taken."""
        try:
            answer = await self._call("get_object", key, Key=self.full_key(key), Range=f"bytes=0-{length - 1}")
        except _NoSuchRange:
            return b""
        try:
            async with asyncio.timeout(self._deadline):
                return bytes(await answer["Body"].read())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable(key, BACKEND, f"get_object: {type(error).__name__}") from error
        finally:
            answer["Body"].close()

    async def put(
        self, key: str, body: Body, *, content_type: str | None, metadata: Mapping[str, str], once: bool
    ) -> None:
        """Raises `ObjectExists` where `once` is asked and the key is taken."""
        await self._conditional_call(
            "put_object",
            key,
            once,
            len(body),
            Key=self.full_key(key),
            Body=body,
            ContentLength=len(body),
            **self._checksum(body),
            **_described(content_type, metadata),
            **self._encryption,
        )

    async def create_upload(self, key: str, *, content_type: str | None, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload and return its id."""
        answer = await self._call(
            "create_multipart_upload",
            key,
            Key=self.full_key(key),
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
            **_described(content_type, metadata),
            **self._encryption,
        )
        return str(answer["UploadId"])

    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        answer = await self._call(
            "upload_part",
            key,
            len(body),
            Key=self.full_key(key),
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=len(body),
            **self._checksum(body),
        )
        return Part(number, answer["ETag"], body.crc32 or answer.get("ChecksumCRC32"))

    async def complete(self, key: str, upload_id: str, parts: Sequence[Part], *, size: int, once: bool) -> None:
        """Raises `ObjectExists` where `once` is asked and the key is taken. `size` only bounds the wait."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag, **({"ChecksumCRC32": part.crc32} if part.crc32 else {})}
            for part in parts
        ]
        await self._conditional_call(
            "complete_multipart_upload",
            key,
            once,
            size,
            Key=self.full_key(key),
            UploadId=upload_id,
            MultipartUpload={"Parts": listed},
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """Give a multipart upload up; one that is gone already is fine."""
        try:
            await self._call("abort_multipart_upload", key, Key=self.full_key(key), UploadId=upload_id)
        except ObjectNotFound:
            return

    async def copy(self, source: str, target: str, found: Found, metadata: Mapping[str, str]) -> None:
        """Copy in the store, with type and this metadata. Raises `ObjectChanged` where the source is no longer `found`,
        `ObjectExists` where the target is taken and the store has conditional copies."""
        await self._conditional_call(
            "copy_object",
            target,
            True,
            found.size,
            Key=self.full_key(target),
            CopySource=self._copy_source(source),
            CopySourceIfMatch=found.etag,
            MetadataDirective="REPLACE",
            **_described(found.content_type, metadata),
            **self._encryption,
        )

    async def copy_part(
        self, source: str, target: str, upload_id: str, number: int, first: int, last: int, etag: str
    ) -> Part:
        answer = await self._call(
            "upload_part_copy",
            target,
            last - first + 1,
            Key=self.full_key(target),
            UploadId=upload_id,
            PartNumber=number,
            CopySource=self._copy_source(source),
            CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={first}-{last}",
        )
        result = answer["CopyPartResult"]
        return Part(number, result["ETag"], result.get("ChecksumCRC32"))

    async def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        try:
            await self._call("delete_object", key, Key=self.full_key(key))
        except ObjectNotFound:
            return

    async def delete_batch(self, keys: Sequence[str]) -> dict[str, StorageError] | None:
        """Delete at most 1,000; returns those that failed, or None where the store has no such request."""
        names = {self.full_key(key): key for key in keys}
        try:
            answer = await self._call(
                "delete_objects", keys[0], Delete={"Objects": [{"Key": name} for name in names], "Quiet": True}
            )
        except _Unsupported:
            return None
        failed: dict[str, StorageError] = {}
        for entry in answer.get("Errors", ()):
            key = names.get(entry.get("Key", ""))
            error = translate(key or keys[0], "delete_objects", entry.get("Code", ""), 0)
            if key is None:  # failed, but which?
                return dict.fromkeys(keys, error)
            if not isinstance(error, ObjectNotFound):
                failed[key] = error
        return failed

    async def list_page(
        self, prefix: str, following: tuple[str, ...] | None, *, start_after: str | None = None, limit: int = 1000
    ) -> Page[Listed]:
        """Objects whose key starts with `prefix` (as text; end it with `/` to mean a folder)."""
        extra: dict[str, Any] = {}
        if following:
            extra["ContinuationToken"] = following[0]
        elif start_after is not None:
            extra["StartAfter"] = self._prefix + start_after
        answer = await self._call("list_objects_v2", prefix, Prefix=self._prefix + prefix, MaxKeys=limit, **extra)
        items = [
            Listed(item["Key"][len(self._prefix) :], item["Size"], item["ETag"], item["LastModified"])
            for item in answer.get("Contents", ())
        ]
        return Page(items, (answer["NextContinuationToken"],) if answer.get("IsTruncated") else None)

    async def list_uploads(self, following: tuple[str, ...] | None) -> Page[Unfinished]:
        """Multipart uploads below the prefix that were neither completed nor aborted."""
        extra: dict[str, Any] = {}
        if following:
            extra = {"KeyMarker": following[0], "UploadIdMarker": following[1]}
        answer = await self._call("list_multipart_uploads", "", Prefix=self._prefix, EncodingType="url", **extra)
        # Unlike for listings of objects, the SDK leaves the encoding of these keys to us; some stores ignore the wish.
        encoded = answer.get("EncodingType") == "url"
        items = [
            Unfinished(name[len(self._prefix) :], item["UploadId"], item["Initiated"])
            for item in answer.get("Uploads", ())
            if (name := unquote_plus(item["Key"]) if encoded else item["Key"]).startswith(self._prefix)
        ]
        if not answer.get("IsTruncated"):
            return Page(items, None)
        marker = answer.get("NextKeyMarker", "")
        return Page(items, (unquote_plus(marker) if encoded else marker, answer.get("NextUploadIdMarker", "")))

    async def sign(
        self, key: str, seconds: int, *, content_type: str | None = None, disposition: str | None = None
    ) -> str:
        """A link that answers a GET for so long, or until the credentials it was signed with expire."""
        params = {"Bucket": self._bucket, "Key": self.full_key(key)}
        if content_type is not None:
            params["ResponseContentType"] = content_type
        if disposition is not None:
            params["ResponseContentDisposition"] = disposition
        return str(
            await self._run(
                "sign", key, self._deadline, "generate_presigned_url", "get_object", Params=params, ExpiresIn=seconds
            )
        )

    def is_missing(self, code: str, status: int) -> bool:
        """True where this refusal counts as a missing object."""
        return self._denied_is_missing and is_denied(code, status)

    def _checksum(self, body: Body) -> dict[str, Any]:
        checksum = body.crc32
        return {"ChecksumCRC32": checksum} if checksum else {}

    def _copy_source(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self.full_key(key)}

    async def _conditional_call(self, operation: str, key: str, once: bool, moved: int, **params: Any) -> Any:
        if once and self._conditional:
            try:
                return await self._call(operation, key, moved, once=True, IfNoneMatch="*", **params)
            except _Unsupported:
                # A store without conditional writes: keys are random, and the HEAD before the write has to do.
                self._conditional = False
        return await self._call(operation, key, moved, **params)

    async def _call(
        self, operation: str, key: str, moved: int = 0, *, limit: float | None = None, once: bool = False, **params: Any
    ) -> Any:
        deadline = (limit or self._deadline) + moved / self._rate
        return await self._run(operation, key, deadline, operation, once=once, Bucket=self._bucket, **params)

    async def _run(
        self, operation: str, key: str, deadline: float, method: str, *args: Any, once: bool = False, **params: Any
    ) -> Any:
        try:
            async with asyncio.timeout(deadline):
                return await getattr(self._sdk, method)(*args, **params)
        except TimeoutError:
            raise StorageUnavailable(key, BACKEND, f"{operation}: no answer within {deadline:.0f} s") from None
        except Refused as error:
            raise self._refusal(operation, key, *refusal(error), once=once) from None
        except NoCredentials as error:
            raise StoragePermission(key, BACKEND, f"{operation}: {type(error).__name__}") from None
        except (Failed, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable(key, BACKEND, f"{operation}: {type(error).__name__}") from error

    def _refusal(self, operation: str, key: str, code: str, status: int, *, once: bool) -> StorageError:
        if is_unsupported(code, status):
            return _Unsupported(key, BACKEND, f"{operation}: {code}")
        if once and (code == "PreconditionFailed" or status == 412):
            return ObjectExists(key, BACKEND)
        if code == "InvalidRange" or status == 416:
            return _NoSuchRange(key, BACKEND)
        if operation in ("head_object", "get_object") and self.is_missing(code, status):
            return ObjectNotFound(key, BACKEND, f"{operation}: {code or status}")
        return translate(key, operation, code, status)


class _NoSuchRange(StorageError):
    """There is an object, but it has no such bytes."""


class _Unsupported(StorageError):
    """The store has no such request."""


async def connect(settings: Settings) -> S3Client:
    """Does not talk to the store; may ask for the credentials of a role. Raises `StorageError`."""
    resources = AsyncExitStack()
    sdk = await make_client(settings, resources)
    return S3Client(sdk, resources, settings, own_checksums=uses_own_checksums(settings))


def _described(content_type: str | None, metadata: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = {"Metadata": dict(metadata)}
    if content_type is not None:
        described["ContentType"] = content_type
    return described
