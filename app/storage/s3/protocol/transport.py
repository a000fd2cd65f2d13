"""`S3Transport`: sends one request through the SDK, under a deadline, and translates its errors to `StorageError`s.

It signs anew where the store asks for it, and leaves out optional fields that the store lacks. `S3Client` has the operations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

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
from app.storage.s3.protocol.capabilities import S3Feature, StoreCapabilities
from app.storage.s3.protocol.error_hints import ErrorExplainer
from app.storage.s3.protocol.errors import (
    BACKEND,
    MultipartUploadMissing,
    S3RequestRefused,
    is_denied,
    is_unsupported,
    translate_s3_error,
)
from app.storage.s3.protocol.optional_fields import OptionalFields, send_supported_fields
from app.storage.s3.protocol.sdk import (
    SdkCredentialErrors,
    SdkFailure,
    SdkResponseError,
    disabled_features,
    parse_error_response,
)
from app.storage.s3.protocol.signing import ErrorResponse, SigningState
from app.storage.s3.protocol.upload_body import UploadBody


class RangeOutside(StorageError):
    """The object exists, but is shorter than the range."""


class _RequestUnsupported(S3RequestRefused):
    """The store does not implement the request."""


class S3Transport:
    """Requests to one bucket and prefix."""

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
        self.calls_in_flight = 0
        self.max_connections = settings.s3_connections
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

    def means_missing_object(self, code: str, status: int) -> bool:
        """True where the settings make this 403 count as a missing object."""
        return self._denied_is_missing and is_denied(code, status)

    async def check_readable(self, key: str) -> None:
        """GET one byte after a refused HEAD: only a GET's response has the reason. Raises its error; returns if the object exists."""
        try:
            answer = await self._call("get_object", key, Key=self.add_prefix(key), Range="bytes=0-0")
        except RangeOutside:
            return
        answer["Body"].close()

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
        self.calls_in_flight += 1
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
        finally:
            self.calls_in_flight -= 1

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
            return RangeOutside(key, BACKEND)
        if operation in ("head_object", "get_object") and self.means_missing_object(code, status):
            return ObjectNotFound(key, BACKEND, f"{operation}: {code or status}")
        error = translate_s3_error(key, operation, code, status)
        if isinstance(error, ObjectNotFound) and operation == "upload_part" and code == "NoSuchUpload":
            return MultipartUploadMissing(key, BACKEND, f"{operation}: {code}")
        if isinstance(error, ObjectNotFound) and _is_upload_missing(operation, code):
            return StorageUnavailable(key, BACKEND, f"{operation}: {code or status}")
        return error


def _is_upload_missing(operation: str, code: str) -> bool:
    """True where "not found" can only mean the multipart upload, which a sweep or a lifecycle rule has aborted, and not an object."""
    return operation in ("create_multipart_upload", "put_object", "upload_part") or (
        operation == "upload_part_copy" and code == "NoSuchUpload"
    )
