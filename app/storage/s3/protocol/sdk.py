"""Makes the SDK's client from the settings: endpoint, credentials, checksum profile, signing, retries.

The SDK has no types, so this file is type-checked loosely; its own functions are typed, or return Any.
"""
# pyright: basic

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiobotocore.session
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.handlers import add_expect_header
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from app import __version__
from app.config import S3Checksums, Settings, read_secret_files
from app.storage.errors import StoragePermission, StorageUnavailable
from app.storage.s3.protocol.capabilities import CHECKSUM_FEATURES, S3Feature
from app.storage.s3.protocol.errors import BACKEND
from app.storage.s3.protocol.signing import CredentialProvider, ErrorResponse, SigningState

DEFAULT_REGION = "us-east-1"

SdkResponseError: type[Exception] = ClientError
"""The store answered with an error."""
SdkCredentialErrors: tuple[type[Exception], ...] = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
)
SdkFailure: type[Exception] = BotoCoreError
"""Any other error inside the SDK."""

_READ_TIMEOUT_SECONDS = 86_400.0
"""Longer than every deadline of `S3Client`, so that only those apply: a copy of gigabytes answers late."""
_CONNECT_SECONDS = 10.0


async def make_client(settings: Settings, resources: AsyncExitStack) -> tuple[Any, SigningState]:
    """Returns the SDK's client and its signing state. Sends no request to the store, but may fetch the credentials of a role.
    `resources` closes the client.

    Raises `StoragePermission` or `StorageUnavailable`.
    """
    session = aiobotocore.session.get_session()
    signing = SigningState(partial(_load_credentials, settings))
    session.register_component("credential_provider", CredentialProvider(signing))
    context = session.create_client(
        "s3",
        region_name=settings.s3_region or session.get_config_variable("region") or DEFAULT_REGION,
        endpoint_url=settings.s3_endpoint,
        config=_sdk_configuration(settings),
    )
    try:
        async with asyncio.timeout(settings.s3_deadline):
            await signing.load_credentials()
            client = await resources.enter_async_context(context)
    except TimeoutError:
        raise StorageUnavailable("", BACKEND, "no credentials in time") from None
    except (BotoCoreError, OSError, ValueError) as error:
        raise StoragePermission("", BACKEND, f"cannot make a client: {type(error).__name__}") from error
    # The SDK would wait for `100 Continue` without a timeout.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    signing.correct_clock_of(client)
    if _checksum_profile(settings) is S3Checksums.NONE:
        client.meta.events.register("before-call.s3.DeleteObjects", _add_content_md5)
    return client, signing


async def _load_credentials(settings: Settings) -> AioCredentials | None:
    """Reads the source of credentials again, with a new session: a session caches the profile file."""
    if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
        secret_values = await asyncio.to_thread(read_secret_files)
        secret = secret_values.get("S3_SECRET_ACCESS_KEY") or settings.s3_secret_access_key.get_secret_value()
        return AioCredentials(secret_values.get("S3_ACCESS_KEY_ID") or settings.s3_access_key_id, secret)
    session = aiobotocore.session.get_session()
    if settings.s3_region:
        session.set_config_variable("region", settings.s3_region)
    return await session.get_credentials()


def parse_error_response(error: Exception) -> ErrorResponse:
    response: dict[str, Any] = getattr(error, "response", {})
    error_fields, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    code, message = str(error_fields.get("Code", "")), str(error_fields.get("Message", ""))
    return ErrorResponse(
        code=code,
        status=int(metadata.get("HTTPStatusCode", 0)),
        date=str(headers.get("date", "")),
        message="" if code.isdigit() else message,  # for a HEAD the SDK has only the status
        region=str(headers.get("x-amz-bucket-region") or error_fields.get("Region") or ""),
    )


def uses_own_checksums(settings: Settings) -> bool:
    """True for the profile `compatible`: mediavault sends one CRC32 header, instead of the SDK's default checksums."""
    return _checksum_profile(settings) is S3Checksums.COMPATIBLE


def disabled_features(settings: Settings) -> frozenset[S3Feature]:
    """Features that the settings switch off."""
    return CHECKSUM_FEATURES if _checksum_profile(settings) is S3Checksums.NONE else frozenset()


def _checksum_profile(settings: Settings) -> S3Checksums:
    if settings.s3_checksums is not S3Checksums.AUTO:
        return settings.s3_checksums
    host = urlsplit(settings.s3_endpoint or "").hostname
    if host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return S3Checksums.AWS
    return S3Checksums.COMPATIBLE


def find_proxy(url: str) -> str | None:
    """The HTTP proxy for this URL in the environment, as the SDK determines it."""
    return get_environ_proxies(url).get(urlsplit(url).scheme)


def make_tls_context() -> ssl.SSLContext:
    """A TLS context with the SDK's certificate authorities. Reads files: call it in a thread."""
    bundle = aiobotocore.session.get_session().get_config_variable("ca_bundle") or get_cert_path(True)
    return ssl.create_default_context(cafile=bundle)


def _sdk_configuration(settings: Settings) -> AioConfig:
    s3: dict[str, Any] = {
        "addressing_style": _addressing_style(settings),
        "use_accelerate_endpoint": settings.s3_use_accelerate,
    }
    checksums: dict[str, Any] = {}
    if _checksum_profile(settings) is not S3Checksums.AWS:
        s3["payload_signing_enabled"] = False
        checksums = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    return AioConfig(
        signature_version="s3v4",
        user_agent=f"mediavault/{__version__}",  # the SDK builds its own one, of twelve parts, anew for each request, twice
        connect_timeout=min(_CONNECT_SECONDS, settings.s3_deadline),
        read_timeout=_READ_TIMEOUT_SECONDS,
        max_pool_connections=settings.s3_connections,
        retries={"mode": "standard", "max_attempts": 3},
        s3=s3,
        **checksums,
    )


def _addressing_style(settings: Settings) -> str:
    if settings.s3_force_path_style is None:
        # Without an endpoint the SDK chooses: path style for buckets with dots in their names.
        return "path" if settings.s3_endpoint else "auto"
    if settings.s3_force_path_style:
        return "path"
    return "virtual" if settings.s3_endpoint else "auto"


def _add_content_md5(params: dict[str, Any], **_: Any) -> None:
    """DeleteObjects requires a digest. Content-MD5 is supported by every store, and is not one of the newer checksum fields."""
    params.get("context", {}).get("checksum", {}).pop("request_algorithm", None)
    params["headers"]["Content-MD5"] = base64.b64encode(
        hashlib.md5(params["body"], usedforsecurity=False).digest()
    ).decode()
