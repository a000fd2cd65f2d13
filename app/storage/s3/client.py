"""S3's calls as typed methods: the only module that touches the SDK, which has no types of its own.

Every call runs under a deadline of ours, every failure leaves as a `StorageError`, and every key is given and
reported without the prefix. What a call means for a write or a read is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any
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
from app.storage.s3 import answers
from app.storage.s3.adapting import Option, send_adapted
from app.storage.s3.answers import BatchDeleted, Found, Listed, Page, Part, Unfinished, required
from app.storage.s3.body import Body
from app.storage.s3.capabilities import Capabilities, Feature
from app.storage.s3.errors import BACKEND, S3Refusal, is_denied, is_unsupported, translate
from app.storage.s3.explaining import Explainer
from app.storage.s3.sdk import Failed, NoCredentials, Refused, lacking, make_client, refusal, uses_own_checksums
from app.storage.s3.signing import Refusal, Signing

_SIZE_IN_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d{1,19})")


class S3Client:
    """One bucket and prefix of one store. Made by `connect`."""

    def __init__(
        self, sdk: Any, signing: Signing, resources: AsyncExitStack, settings: Settings, *, own_checksums: bool
    ) -> None:
        self._sdk = sdk
        self.signing = signing
        self.explainer = Explainer(settings, signing.secrets)
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
        self._own_checksums = own_checksums
        self.capabilities = Capabilities(lacking(settings))
        self.decode_keys: Callable[[str], str] | None = None
        """How keys of listings are decoded; None: as the answers say."""

    @property
    def own_checksums(self) -> bool:
        """True where bodies carry a checksum of ours."""
        has = self.capabilities.has
        return self._own_checksums and (has(Feature.PUT_CHECKSUM) or has(Feature.PART_CHECKSUM))

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
        size = answer.get("ContentLength")
        if size is None:
            self.capabilities.lacks(Feature.HEAD_LENGTH, "a HEAD was answered without it")
        if size is None or not self.capabilities.has(Feature.HEAD_LENGTH):
            size = await self.size_by_get(key)
        for name, feature in (("ETag", Feature.ETAG), ("LastModified", Feature.LAST_MODIFIED)):
            if not answer.get(name):
                self.capabilities.lacks(feature, "a HEAD was answered without it")
        return answers.found(answer, size)

    async def size_by_get(self, key: str) -> int:
        """As a GET tells it: by the range of one byte, or where the store leaves open whether that is what it sends, without a range."""
        try:
            answer = await self._call("get_object", key, Key=self.full_key(key), Range="bytes=0-0")
        except _NoSuchRange:
            return 0
        answer["Body"].close()
        if match := _SIZE_IN_RANGE.fullmatch(answer.get("ContentRange") or ""):
            return int(match[1])
        if answer.get("ContentLength") in (None, 1):
            answer = await self._call("get_object", key, Key=self.full_key(key))
            answer["Body"].close()
        return int(required(answer, "ContentLength", key, "get_object"))

    async def require_free(self, key: str) -> None:
        """Raises `ObjectExists` where the key is taken now."""
        try:
            await self.head(key)
        except ObjectNotFound:
            return
        raise ObjectExists(key, BACKEND)

    async def explain(self, key: str) -> None:
        """Ask for one byte of what a HEAD refused: the answer to a GET says why. Raises that; returns if there is an object."""
        try:
            answer = await self._call("get_object", key, Key=self.full_key(key), Range="bytes=0-0")
        except _NoSuchRange:
            return
        answer["Body"].close()

    async def get_start(self, key: str, length: int) -> bytes:
        """The first `length` bytes, or as many as there are. Not on the connections of reads, which downloads may have taken; without a
        range, since some stores refuse one that is longer than the object."""
        answer = await self._call("get_object", key, Key=self.full_key(key))
        body, start = answer["Body"], b""
        try:
            async with asyncio.timeout(self._deadline):
                while len(start) < length and (piece := await body.read(length - len(start))):
                    start += piece
                return start
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise StorageUnavailable(key, BACKEND, f"get_object: {type(error).__name__}") from error
        finally:
            body.close()

    async def put(
        self, key: str, body: Body, *, content_type: str | None, metadata: Mapping[str, str], once: bool
    ) -> None:
        """Raises `ObjectExists` where `once` is asked and the key is taken."""
        await self._adapted(
            "put_object",
            key,
            [_checksum(Feature.PUT_CHECKSUM, body.crc32), self._once(Feature.CONDITIONAL_PUT, key, once)],
            len(body),
            once=once,
            Key=self.full_key(key),
            Body=body,
            ContentLength=len(body),
            **_described(content_type, metadata),
            **self._encryption,
        )

    async def create_upload(
        self, key: str, *, content_type: str | None, metadata: Mapping[str, str], checksums: bool = True
    ) -> str:
        """Begin a multipart upload and return its id. Without `checksums` the store is not asked to keep one of the whole."""
        algorithm = Option(Feature.MULTIPART_CHECKSUM, {"ChecksumAlgorithm": "CRC32"})
        whole = Option(
            Feature.FULL_OBJECT_CHECKSUM, {"ChecksumType": "FULL_OBJECT"}, requires=Feature.MULTIPART_CHECKSUM
        )
        answer = await self._adapted(
            "create_multipart_upload",
            key,
            [whole, algorithm] if checksums else [],
            Key=self.full_key(key),
            **_described(content_type, metadata),
            **self._encryption,
        )
        return str(required(answer, "UploadId", key, "create_multipart_upload"))

    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        answer = await self._adapted(
            "upload_part",
            key,
            [_checksum(Feature.PART_CHECKSUM, body.crc32)],
            len(body),
            Key=self.full_key(key),
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=len(body),
        )
        sent = body.crc32 if self.capabilities.has(Feature.PART_CHECKSUM) else None
        return answers.part(answer, number, sent, key, "upload_part")

    async def complete(self, key: str, upload_id: str, parts: Sequence[Part], *, size: int, once: bool) -> None:
        """Raises `ObjectExists` where `once` is asked and the key is taken. `size` only bounds the wait."""
        plain = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        options: list[Option | None] = []
        if all(part.crc32 for part in parts):
            checked = [entry | {"ChecksumCRC32": part.crc32} for entry, part in zip(plain, parts, strict=True)]
            fields = {"MultipartUpload": {"Parts": checked}}
            options.append(Option(Feature.COMPLETE_CHECKSUM, fields, requires=Feature.MULTIPART_CHECKSUM))
        options.append(self._once(Feature.CONDITIONAL_COMPLETE, key, once))
        await self._adapted(
            "complete_multipart_upload",
            key,
            options,
            size,
            once=once,
            Key=self.full_key(key),
            UploadId=upload_id,
            MultipartUpload={"Parts": plain},
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
        await self._adapted(
            "copy_object",
            target,
            [_same_source(found.etag), self._once(Feature.CONDITIONAL_COPY, target, True)],
            found.size,
            once=True,
            Key=self.full_key(target),
            CopySource=self._copy_source(source),
            MetadataDirective="REPLACE",
            **_described(found.content_type, metadata),
            **self._encryption,
        )

    async def copy_part(
        self, source: str, target: str, upload_id: str, number: int, first: int, last: int, etag: str
    ) -> Part:
        answer = await self._adapted(
            "upload_part_copy",
            target,
            [_same_source(etag)],
            last - first + 1,
            Key=self.full_key(target),
            UploadId=upload_id,
            PartNumber=number,
            CopySource=self._copy_source(source),
            CopySourceRange=f"bytes={first}-{last}",
        )
        return answers.part(answer.get("CopyPartResult", {}), number, None, target, "upload_part_copy")

    async def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        try:
            await self._call("delete_object", key, Key=self.full_key(key))
        except ObjectNotFound:
            return

    async def delete_batch(self, keys: Sequence[str]) -> BatchDeleted:
        """Delete at most 1,000. Asks for what was deleted: silence proves nothing."""
        names = {self.full_key(key): key for key in keys}
        objects = [{"Key": name} for name in names]
        answer = await self._call("delete_objects", keys[0], Delete={"Objects": objects})
        outcome = answers.batch_deleted(answer)
        return BatchDeleted(
            frozenset(names[name] for name in outcome.deleted if name in names),
            {names.get(name, ""): code for name, code in outcome.failed.items()},
        )

    async def list_page(
        self, prefix: str, following: tuple[str, ...] | None, *, start_after: str | None = None, limit: int = 1000
    ) -> Page[Listed]:
        """Objects whose key starts with `prefix` (as text; end it with `/` to mean a folder)."""
        answer = await self._list(prefix, following, start_after, limit)
        decode = self.decode_keys or (unquote_plus if answer.get("EncodingType") == "url" else str)
        items = answers.listed(answer, self._prefix, prefix, decode)
        ambiguous = any("%" in item["Key"] or "+" in item["Key"] for item in answer.get("Contents", ()))
        if not answer.get("IsTruncated"):
            return Page(items, None, ambiguous)
        return Page(items, (answer.get("NextContinuationToken", ""),), ambiguous)

    async def list_names(self, prefix: str, *, start_after: str | None = None) -> tuple[list[str], bool]:
        """Full keys as they stand in the answer, and whether it says that they are encoded. One page."""
        answer = await self._list(prefix, None, start_after, 1000)
        return [item.get("Key", "") for item in answer.get("Contents", ())], answer.get("EncodingType") == "url"

    async def _list(
        self, prefix: str, following: tuple[str, ...] | None, start_after: str | None, limit: int
    ) -> dict[str, Any]:
        # The SDK would decode keys by itself where the answer says that they are encoded, which is not always true.
        wishes: dict[str, Any] = {"Prefix": self._prefix + prefix, "MaxKeys": limit, "EncodingType": "url"}
        if following:
            wishes["ContinuationToken"] = following[0]
        after = None
        if start_after is not None and not following:
            after = Option(Feature.START_AFTER, {"StartAfter": self._prefix + start_after})
        return await self._adapted("list_objects_v2", prefix, [after], **wishes)

    async def list_uploads(self, following: tuple[str, ...] | None) -> Page[Unfinished]:
        """Multipart uploads below the prefix that were neither completed nor aborted; none where the store cannot tell."""
        if not self.capabilities.has(Feature.LIST_UPLOADS):
            return Page((), None)
        extra: dict[str, Any] = {}
        if following:
            extra = {"KeyMarker": following[0], "UploadIdMarker": following[1]}
        try:
            answer = await self._call("list_multipart_uploads", "", Prefix=self._prefix, EncodingType="url", **extra)
        except (S3Refusal, ObjectNotFound) as error:
            self.capabilities.lacks(Feature.LIST_UPLOADS, f"refused: {error.detail}")
            return Page((), None)
        page = answers.unfinished(answer, self._prefix)
        return Page(page.items, None) if page.following == following else page

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

    async def ask(self, operation: str, key: str = "", **params: Any) -> Mapping[str, Any]:
        """One call that has no method of its own, for inspections; `key` goes along where it is given."""
        return await self._call(operation, key, **({"Key": self.full_key(key)} if key else {}), **params)

    def is_missing(self, code: str, status: int) -> bool:
        """True where this refusal counts as a missing object."""
        return self._denied_is_missing and is_denied(code, status)

    def _copy_source(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self.full_key(key)}

    def _once(self, feature: Feature, key: str, once: bool) -> Option | None:
        """The condition that the key is free; where the store lacks it, the key is asked for right before."""
        return Option(feature, {"IfNoneMatch": "*"}, otherwise=lambda: self.require_free(key)) if once else None

    async def _adapted(
        self,
        operation: str,
        key: str,
        options: Sequence[Option | None],
        moved: int = 0,
        *,
        once: bool = False,
        **params: Any,
    ) -> Any:
        """`_call` with those of the options that the store takes."""
        return await send_adapted(
            self.capabilities,
            [option for option in options if option is not None],
            lambda fields: self._call(operation, key, moved, once=once, **(params | fields)),
        )

    async def _call(
        self, operation: str, key: str, moved: int = 0, *, limit: float | None = None, once: bool = False, **params: Any
    ) -> Any:
        deadline = (limit or self._deadline) + moved / self._rate
        return await self._run(operation, key, deadline, operation, once=once, Bucket=self._bucket, **params)

    async def _run(
        self, operation: str, key: str, deadline: float, method: str, *args: Any, once: bool = False, **params: Any
    ) -> Any:
        generation = self.signing.generation
        try:
            async with asyncio.timeout(deadline):
                try:
                    return await getattr(self._sdk, method)(*args, **params)
                except Refused as error:
                    if not await self._mended(operation, key, refusal(error), generation):
                        raise
                if isinstance(body := params.get("Body"), Body):
                    body.seek(0)
                return await getattr(self._sdk, method)(*args, **params)
        # No error is kept in a variable here: its traceback leads to this frame, and both would wait for the garbage collector.
        except TimeoutError as error:
            detail = f"{operation}: no answer within {deadline:.0f} s"
            raise self.explainer.failed(StorageUnavailable(key, BACKEND, detail), error) from None
        except Refused as error:
            answer = refusal(error)
            raise self.explainer.refused(
                self._refusal(operation, key, answer.code, answer.status, once=once), answer
            ) from None
        except NoCredentials as error:
            detail = f"{operation}: {type(error).__name__}"
            raise self.explainer.failed(StoragePermission(key, BACKEND, detail), error) from None
        except (Failed, aiohttp.ClientError, OSError) as error:
            detail = f"{operation}: {type(error).__name__}"
            raise self.explainer.failed(StorageUnavailable(key, BACKEND, detail), error) from error

    async def _mended(self, operation: str, key: str, answer: Refusal, generation: int) -> bool:
        """True where the request would now be signed otherwise. Why a HEAD was refused only a GET can tell, and mends it then."""
        if await self.signing.mend(answer, generation):
            return True
        if operation == "head_object" and answer.status in (400, 401, 403) and not self.is_missing("", answer.status):
            with suppress(StorageError):
                await self.explain(key)
        return self.signing.generation != generation

    def _refusal(self, operation: str, key: str, code: str, status: int, *, once: bool) -> StorageError:
        if is_unsupported(code, status):
            return _Unsupported(key, BACKEND, f"{operation}: {code}")
        if once and (code == "PreconditionFailed" or status == 412):
            return ObjectExists(key, BACKEND)
        if code == "InvalidRange" or status == 416:
            return _NoSuchRange(key, BACKEND)
        if operation in ("head_object", "get_object") and self.is_missing(code, status):
            return ObjectNotFound(key, BACKEND, f"{operation}: {code or status}")
        error = translate(key, operation, code, status)
        if isinstance(error, ObjectNotFound) and _is_write(operation, code):
            return StorageUnavailable(key, BACKEND, f"{operation}: {code or status}")
        return error


class _NoSuchRange(StorageError):
    """There is an object, but it has no such bytes."""


class _Unsupported(S3Refusal):
    """The store has no such request."""


async def connect(settings: Settings) -> S3Client:
    """Does not talk to the store; may ask for the credentials of a role. Raises `StorageError`."""
    resources = AsyncExitStack()
    sdk, signing = await make_client(settings, resources)
    return S3Client(sdk, signing, resources, settings, own_checksums=uses_own_checksums(settings))


def _is_write(operation: str, code: str) -> bool:
    """True where "not found" can only mean the upload, which a sweep or a lifecycle rule has ended, and never an object."""
    return operation in ("create_multipart_upload", "put_object", "upload_part") or (
        operation == "upload_part_copy" and code == "NoSuchUpload"
    )


def _described(content_type: str | None, metadata: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = {"Metadata": dict(metadata)}
    if content_type is not None:
        described["ContentType"] = content_type
    return described


def _checksum(feature: Feature, crc32: str | None) -> Option | None:
    return Option(feature, {"ChecksumCRC32": crc32}) if crc32 else None


def _same_source(etag: str) -> Option | None:
    return Option(Feature.COPY_SOURCE_MATCH, {"CopySourceIfMatch": etag}) if answers.is_strong(etag) else None
