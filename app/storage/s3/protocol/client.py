"""`S3Client`: the S3 operations as typed methods over the SDK, which has no types.

Every call has a deadline and raises only `StorageError`s. Keys are passed and returned without the prefix. The client does not decide what a
response means for a read or a write: `reader` and `writer` do.
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
from app.storage.s3.protocol import responses
from app.storage.s3.protocol.capabilities import S3Feature, StoreCapabilities
from app.storage.s3.protocol.error_hints import ErrorExplainer
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused, is_denied, is_unsupported, translate_s3_error
from app.storage.s3.protocol.optional_fields import OptionalFields, send_supported_fields
from app.storage.s3.protocol.responses import (
    BatchDeleteResult,
    HeadResult,
    ListedObject,
    ListingPage,
    UnfinishedUpload,
    UploadedPart,
    require_field,
)
from app.storage.s3.protocol.sdk import (
    SdkCredentialErrors,
    SdkFailure,
    SdkResponseError,
    disabled_features,
    make_client,
    parse_error_response,
    uses_own_checksums,
)
from app.storage.s3.protocol.signing import ErrorResponse, SigningState
from app.storage.s3.protocol.upload_body import UploadBody

_SIZE_IN_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d{1,19})")


class S3Client:
    """One bucket and prefix of one store. Made by `connect_client`."""

    def __init__(
        self,
        sdk: Any,
        signing: SigningState,
        resources: AsyncExitStack,
        settings: Settings,
        *,
        sends_own_checksums: bool,
    ) -> None:
        self._sdk = sdk
        self.signing = signing
        self.error_explainer = ErrorExplainer(settings, signing.secret_texts)
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
        self._sends_own_checksums = sends_own_checksums
        self.capabilities = StoreCapabilities(disabled_features(settings))
        self.decode_key: Callable[[str], str] | None = None
        """Decodes the keys of listings; None: as each response declares."""

    @property
    def sends_own_checksums(self) -> bool:
        """True where upload bodies carry a CRC32 that mediavault computed."""
        has = self.capabilities.has
        return self._sends_own_checksums and (has(S3Feature.PUT_CHECKSUM) or has(S3Feature.PART_CHECKSUM))

    @property
    def sdk(self) -> Any:
        """The SDK's client, for its events."""
        return self._sdk

    @property
    def endpoint(self) -> str:
        """The URL of the store, for choosing a proxy."""
        return str(self._sdk.meta.endpoint_url)

    async def aclose(self) -> None:
        await self._resources.aclose()

    def add_prefix(self, key: str) -> str:
        """The full key. Raises `InvalidKey` where it is longer than S3 allows."""
        full = self._prefix + key
        if len(full.encode("utf-8")) > MAX_KEY_BYTES:
            raise InvalidKey(key, BACKEND, f"longer than {MAX_KEY_BYTES} bytes with the prefix")
        return full

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
        except _RangeOutside:
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

    async def check_readable(self, key: str) -> None:
        """GET one byte after a refused HEAD: only a GET's response has the reason. Raises its error; returns if the object exists."""
        try:
            answer = await self._call("get_object", key, Key=self.add_prefix(key), Range="bytes=0-0")
        except _RangeOutside:
            return
        answer["Body"].close()

    async def read_prefix(self, key: str, length: int) -> bytes:
        """The first `length` bytes, or fewer where the object is shorter. Not on `S3Reader`'s connections, which downloads may occupy;
        without a range, because some stores refuse a range that is longer than the object."""
        answer = await self._call("get_object", key, Key=self.add_prefix(key))
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

    async def list_uploads(self, marker: tuple[str, ...] | None) -> ListingPage[UnfinishedUpload]:
        """Multipart uploads below the prefix that were neither completed nor aborted; empty where the store cannot list them."""
        if not self.capabilities.has(S3Feature.LIST_UPLOADS):
            return ListingPage((), None)
        extra: dict[str, Any] = {}
        if marker:
            extra = {"KeyMarker": marker[0], "UploadIdMarker": marker[1]}
        try:
            answer = await self._call("list_multipart_uploads", "", Prefix=self._prefix, EncodingType="url", **extra)
        except (S3RequestRefused, ObjectNotFound) as error:
            self.capabilities.mark_missing(S3Feature.LIST_UPLOADS, f"refused: {error.detail}")
            return ListingPage((), None)
        page = responses.parse_unfinished_uploads(answer, self._prefix)
        # A store whose pages repeat or go back would be listed for ever.
        following = page.next_marker
        is_last = marker is not None and following is not None and (following == marker or following[0] < marker[0])
        return ListingPage(page.items, None) if is_last else page

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

    def means_missing_object(self, code: str, status: int) -> bool:
        """True where the settings make this 403 count as a missing object."""
        return self._denied_is_missing and is_denied(code, status)

    def _copy_source(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self.add_prefix(key)}

    def _if_absent_field(self, feature: S3Feature, key: str, if_absent: bool) -> OptionalFields | None:
        """The condition that the key is free; without it, a HEAD right before the request checks the key."""
        return (
            OptionalFields(feature, {"IfNoneMatch": "*"}, before_omitting=lambda: self.check_key_free(key))
            if if_absent
            else None
        )

    async def _call_with_options(
        self,
        operation: str,
        key: str,
        options: Sequence[OptionalFields | None],
        body_bytes: int = 0,
        *,
        if_absent: bool = False,
        **params: Any,
    ) -> Any:
        """`_call` with the optional fields that the store supports."""
        return await send_supported_fields(
            self.capabilities,
            [option for option in options if option is not None],
            lambda fields: self._call(operation, key, body_bytes, if_absent=if_absent, **(params | fields)),
        )

    async def _call(
        self,
        operation: str,
        key: str,
        body_bytes: int = 0,
        *,
        timeout_seconds: float | None = None,
        if_absent: bool = False,
        **params: Any,
    ) -> Any:
        deadline = (timeout_seconds or self._deadline) + body_bytes / self._rate
        return await self._run(operation, key, deadline, operation, if_absent=if_absent, Bucket=self._bucket, **params)

    async def _run(
        self, operation: str, key: str, deadline: float, method: str, *args: Any, if_absent: bool = False, **params: Any
    ) -> Any:
        generation = self.signing.generation
        try:
            async with asyncio.timeout(deadline):
                try:
                    return await getattr(self._sdk, method)(*args, **params)
                except SdkResponseError as error:
                    if not await self._renew_signature(operation, key, parse_error_response(error), generation):
                        raise
                if isinstance(body := params.get("Body"), UploadBody):
                    body.seek(0)
                return await getattr(self._sdk, method)(*args, **params)
        # No error is kept in a variable here: its traceback refers to this frame, and the cycle would wait for the garbage collector.
        except TimeoutError as error:
            detail = f"{operation}: no answer within {deadline:.0f} s"
            raise self.error_explainer.explain_failure(StorageUnavailable(key, BACKEND, detail), error) from None
        except SdkResponseError as error:
            answer = parse_error_response(error)
            raise self.error_explainer.explain_response(
                self._to_storage_error(operation, key, answer.code, answer.status, if_absent=if_absent), answer
            ) from None
        except SdkCredentialErrors as error:
            detail = f"{operation}: {type(error).__name__}"
            raise self.error_explainer.explain_failure(StoragePermission(key, BACKEND, detail), error) from None
        except (SdkFailure, aiohttp.ClientError, OSError) as error:
            detail = f"{operation}: {type(error).__name__}"
            raise self.error_explainer.explain_failure(StorageUnavailable(key, BACKEND, detail), error) from error

    async def _renew_signature(self, operation: str, key: str, response: ErrorResponse, generation: int) -> bool:
        """True where the request would now be signed differently. A refused HEAD has no error code, so a GET is sent, which renews the
        signature where that is the reason."""
        if await self.signing.renew(response, generation):
            return True
        if (
            operation == "head_object"
            and response.status in (400, 401, 403)
            and not self.means_missing_object("", response.status)
        ):
            with suppress(StorageError):
                await self.check_readable(key)
        return self.signing.generation != generation

    def _to_storage_error(self, operation: str, key: str, code: str, status: int, *, if_absent: bool) -> StorageError:
        if is_unsupported(code, status):
            return _RequestUnsupported(key, BACKEND, f"{operation}: {code}")
        if if_absent and (code == "PreconditionFailed" or status == 412):
            return ObjectExists(key, BACKEND)
        if code == "InvalidRange" or status == 416:
            return _RangeOutside(key, BACKEND)
        if operation in ("head_object", "get_object") and self.means_missing_object(code, status):
            return ObjectNotFound(key, BACKEND, f"{operation}: {code or status}")
        error = translate_s3_error(key, operation, code, status)
        if isinstance(error, ObjectNotFound) and _is_upload_missing(operation, code):
            return StorageUnavailable(key, BACKEND, f"{operation}: {code or status}")
        return error


class _RangeOutside(StorageError):
    """The object exists, but is shorter than the range."""


class _RequestUnsupported(S3RequestRefused):
    """The store does not implement the request."""


async def connect_client(settings: Settings) -> S3Client:
    """Sends no request to the store, but may fetch the credentials of a role. Raises `StorageError`."""
    resources = AsyncExitStack()
    sdk, signing = await make_client(settings, resources)
    return S3Client(sdk, signing, resources, settings, sends_own_checksums=uses_own_checksums(settings))


def _is_upload_missing(operation: str, code: str) -> bool:
    """True where "not found" can only mean the multipart upload, which a sweep or a lifecycle rule has aborted, and not an object."""
    return operation in ("create_multipart_upload", "put_object", "upload_part") or (
        operation == "upload_part_copy" and code == "NoSuchUpload"
    )


def _metadata_fields(content_type: str | None, metadata: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"Metadata": dict(metadata)}
    if content_type is not None:
        fields["ContentType"] = content_type
    return fields


def _checksum_field(feature: S3Feature, crc32: str | None) -> OptionalFields | None:
    return OptionalFields(feature, {"ChecksumCRC32": crc32}) if crc32 else None


def _source_match_field(etag: str) -> OptionalFields | None:
    return (
        OptionalFields(S3Feature.COPY_SOURCE_MATCH, {"CopySourceIfMatch": etag}) if responses.is_strong(etag) else None
    )
