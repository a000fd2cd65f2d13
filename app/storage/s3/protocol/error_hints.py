"""Adds the store's own message, without secrets, and a hint for the operator to errors. Pure: no I/O, no botocore.

A hint names the setting that is probably wrong. It is a guess: the store's own code and message stand before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.config import Settings
from app.storage.errors import StorageError, StorageFull, StoragePermission, StorageRefused, StorageUnavailable
from app.storage.s3.protocol.signing import CLOCK_SKEW_CODES, ErrorResponse

MESSAGE_LENGTH = 300
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_OPAQUE_TEXT = re.compile(r"[A-Za-z0-9+/=_%-]{40,}")
"""Matches signatures and tokens, and also long keys, which the error names anyway."""
_SCOPE_REGION = re.compile(r"\bexpect(?:ed|ing)\b[^/]*?\d{8}/([a-z0-9-]{2,40})/s3/aws4_request", re.IGNORECASE)
_EXPECTED_REGION = re.compile(
    r"expect(?:ed|ing)[^a-z0-9]*(?:region)?[^a-z0-9]*['\"]?([a-z0-9-]{2,40})['\"]?", re.IGNORECASE
)
_REGION_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "AuthorizationQueryParametersError",
        "IllegalLocationConstraintException",
        "InvalidRegionName",
        "MovedPermanently",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_CONNECTION_ERROR_NAMES = ("DNS", "EndpointConnection", "ConnectorError", "ConnectTimeout", "ConnectionTimeout")
_CONFIGURATION_ERRORS = (StorageFull, StoragePermission, StorageRefused, StorageUnavailable)
"""Errors that an operator may be able to fix; the others concern one object."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings that hints depend on."""

    endpoint: str | None
    region: str | None
    uses_virtual_hosts: bool
    uses_kms: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> StoreSettings:
        return cls(
            settings.s3_endpoint,
            settings.s3_region,
            settings.s3_force_path_style is False and settings.s3_endpoint is not None,
            settings.s3_sse is not None and settings.s3_sse.value == "aws:kms",
        )


class ErrorExplainer:
    """Returns errors of the same type, with message and hint."""

    def __init__(self, settings: Settings, get_secrets: Callable[[], Iterable[str]]) -> None:
        """`get_secrets` returns the current secrets, which must not appear in messages."""
        self._store_settings = StoreSettings.from_settings(settings)
        self._get_secrets = get_secrets

    def explain_response(self, error: StorageError, response: ErrorResponse) -> StorageError:
        if not isinstance(error, _CONFIGURATION_ERRORS):
            return error
        store_message = redact_message(response.message, self._get_secrets())
        detail = f"{error.detail}: {store_message}" if store_message else error.detail
        return type(error)(error.key, error.backend, detail, hint_for_response(response, self._store_settings))

    def explain_failure(self, error: StorageError, failure: BaseException) -> StorageError:
        return type(error)(error.key, error.backend, error.detail, hint_for_failure(failure, self._store_settings))


def redact_message(message: str, secrets: Iterable[str]) -> str:
    """The message as one short line without secrets, signatures and control characters."""
    for secret in secrets:
        if secret:
            message = message.replace(secret, "…")
    line = _OPAQUE_TEXT.sub("…", _SPACE.sub(" ", message)).strip()
    return line if len(line) <= MESSAGE_LENGTH else f"{line[:MESSAGE_LENGTH]}…"


def hint_for_response(response: ErrorResponse, store_settings: StoreSettings) -> str:
    """The hint for an error response; empty where none is known."""
    code, message = response.code, response.message
    if code in CLOCK_SKEW_CODES:
        return "the clock of this host and that of the store differ: set both by NTP"
    if code in _REGION_CODES or response.status in (301, 307, 308):
        return _region_hint(response, store_settings)
    if "HTTP request" in message and "HTTPS server" in message:
        return "S3_ENDPOINT begins with http://, and the server wants https://"
    if code.startswith("KMS.") or (
        store_settings.uses_kms and code in ("InternalError", "NotImplemented", "InvalidArgument")
    ):
        return "S3_SSE is KMS: S3_SSE_KMS_KEY_ID must name a key that exists and that these credentials may use"
    hint = _HINTS.get(code, "")
    if code == "NoSuchBucket" and store_settings.uses_virtual_hosts:
        hint += "; or it does not know https://bucket.host, and S3_FORCE_PATH_STYLE=false must go"
    return hint


def hint_for_failure(failure: BaseException, store_settings: StoreSettings) -> str:
    """The hint for a request without a response, or with one that is not S3's; empty where none is known."""
    name, text = type(failure).__name__, str(failure)
    if "Credential" in name:
        return "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give this host a profile or a role"
    if "WRONG_VERSION_NUMBER" in text or "wrong version number" in text:
        return "S3_ENDPOINT begins with https://, and the server speaks http://"
    if "Certificate" in name or "CERTIFICATE_VERIFY_FAILED" in text:
        return "the server's certificate is not trusted: name its authority's file in AWS_CA_BUNDLE"
    if "ResponseParser" in name:
        return "what answers is no S3 server: S3_ENDPOINT may be the address of its console"
    if isinstance(failure, TimeoutError):
        return "is S3_ENDPOINT right, and can it be reached from here?" if store_settings.endpoint else ""
    if any(kind in name for kind in _CONNECTION_ERROR_NAMES):
        if store_settings.uses_virtual_hosts:
            return (
                "S3_FORCE_PATH_STYLE=false asks https://bucket.host: leave it out unless that name leads to the store"
            )
        return "nothing answers there: is S3_ENDPOINT right, and the server running?" if store_settings.endpoint else ""
    return ""


def _region_hint(response: ErrorResponse, store_settings: StoreSettings) -> str:
    if (urlsplit(store_settings.endpoint or "").hostname or "").endswith(".r2.cloudflarestorage.com"):
        return "Cloudflare R2 wants S3_REGION=auto"
    found = _SCOPE_REGION.search(response.message) or _EXPECTED_REGION.search(response.message)
    region = response.region or (found.group(1) if found else "")
    if region and region != store_settings.region:
        return f"the bucket is in another region: S3_REGION={region}"
    if "scope" in response.message.lower():
        return "the server wants another region: S3_REGION must be what its configuration names (Garage: `garage`)"
    return "S3_REGION or S3_ENDPOINT is not that of the bucket"


_HINTS = {
    "AccessDenied": "these credentials lack a right below S3_PREFIX of S3_BUCKET: docs/s3.md has the least that is needed",
    "ExpiredToken": "the temporary credentials have expired, and no new ones are where they came from",
    "InvalidAccessKeyId": "the store does not know S3_ACCESS_KEY_ID",
    "InvalidBucketName": "S3_BUCKET is no name that this store takes",
    "InvalidToken": "the temporary credentials are not of this store",
    "NoSuchBucket": "S3_BUCKET does not exist there, or S3_ENDPOINT is another store",
    "SignatureDoesNotMatch": "S3_SECRET_ACCESS_KEY does not belong to S3_ACCESS_KEY_ID, or a proxy changes the Host header",
}
