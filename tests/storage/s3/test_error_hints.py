"""Messages and hints of errors: the store's message without secrets, and the setting that is probably wrong."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, SSLError

from app.storage.errors import ObjectNotFound, StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key
from app.storage.s3.protocol.error_hints import MESSAGE_LENGTH, ErrorExplainer
from app.storage.s3.protocol.signing import ErrorResponse
from tests.real.proxy import Fault, Proxy
from tests.storage.s3.conftest import OpenBackend, read, s3_settings

GARAGE = "Authorization header malformed, unexpected scope: 20261129/us-east-1/s3/aws4_request, expected: 20261129/garage/s3/aws4_request"
AWS = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPx"


def explainer(**settings: Any) -> ErrorExplainer:
    endpoint = settings.pop("endpoint", "https://store.example")
    return ErrorExplainer(s3_settings(endpoint, None, "photos", "", **settings), lambda: (SECRET, "KEYID"))


@pytest.mark.parametrize(
    ("refusal", "settings", "hint"),
    [
        (ErrorResponse("AuthorizationHeaderMalformed", 400, message=GARAGE), {}, "S3_REGION=garage"),
        (ErrorResponse("AuthorizationHeaderMalformed", 400, message=AWS), {}, "S3_REGION=eu-central-1"),
        (
            ErrorResponse(
                "InvalidRegionName", 400, message="The region name 'eu' is not valid. Must be one of: wnam, auto"
            ),
            {"endpoint": "https://0123.r2.cloudflarestorage.com", "S3_REGION": "eu"},
            "S3_REGION=auto",
        ),
        (
            ErrorResponse("PermanentRedirect", 301, region="ap-south-1"),
            {"S3_REGION": "us-east-1"},
            "S3_REGION=ap-south-1",
        ),
        (ErrorResponse("301", 301), {}, "S3_REGION or S3_ENDPOINT"),
        (ErrorResponse("RequestTimeTooSkewed", 403), {}, "clock"),
        (ErrorResponse("InvalidAccessKeyId", 403), {}, "S3_ACCESS_KEY_ID"),
        (ErrorResponse("NoSuchBucket", 404), {}, "S3_BUCKET"),
        (ErrorResponse("NoSuchBucket", 404), {"S3_FORCE_PATH_STYLE": False}, "S3_FORCE_PATH_STYLE=false must go"),
        (ErrorResponse("KMS.DisabledException", 400), {}, "S3_SSE_KMS_KEY_ID"),
        (ErrorResponse("400", 400, message="Client sent an HTTP request to an HTTPS server."), {}, "https://"),
        (ErrorResponse("WhoKnows", 400), {}, ""),
    ],
)
def test_a_refusal_names_the_setting(refusal: ErrorResponse, settings: dict[str, Any], hint: str) -> None:
    told = explainer(**settings).explain_response(StoragePermission("a", "s3", "get"), refusal)
    assert type(told) is StoragePermission
    assert hint in told.hint
    assert bool(told.hint) is bool(hint)
    assert told.hint in str(told)


@pytest.mark.parametrize(
    ("failure", "settings", "hint"),
    [
        (NoCredentialsError(), {}, "S3_ACCESS_KEY_ID"),
        (TimeoutError(), {}, "S3_ENDPOINT"),
        (EndpointConnectionError(endpoint_url="https://store.example"), {}, "S3_ENDPOINT"),
        (EndpointConnectionError(endpoint_url="x"), {"S3_FORCE_PATH_STYLE": False}, "S3_FORCE_PATH_STYLE"),
        (SSLError(endpoint_url="x", error="[SSL: WRONG_VERSION_NUMBER]"), {}, "http://"),
        (SSLError(endpoint_url="x", error="CERTIFICATE_VERIFY_FAILED"), {}, "AWS_CA_BUNDLE"),
    ],
)
def test_no_answer_names_the_setting(failure: Exception, settings: dict[str, Any], hint: str) -> None:
    assert hint in explainer(**settings).explain_failure(StorageUnavailable("a", "s3", "get"), failure).hint


def test_what_the_store_says_carries_no_secret_and_no_second_line() -> None:
    signature = "f" * 64
    message = f"no\r\nrequest of KEYID with {SECRET}: {signature}\x1b[2J " + "so it is. " * 100
    told = explainer().explain_response(
        StoragePermission("a", "s3", "get: AccessDenied"), ErrorResponse("AccessDenied", 403, message=message)
    )
    assert "no request of … with …: … [2J so it is" in told.detail
    assert len(told.detail) < MESSAGE_LENGTH + 40
    assert not any(text in str(told) for text in (SECRET, "KEYID", signature, "\n", "\r", "\x1b"))


def test_what_is_wrong_with_one_object_is_no_matter_of_the_settings() -> None:
    missing = ObjectNotFound("a", "s3", "get: NoSuchKey")
    assert (
        explainer().explain_response(missing, ErrorResponse("NoSuchKey", 404, message="The key does not exist"))
        is missing
    )


@pytest.mark.parametrize("name", ["read", "call"])
async def test_code_message_and_hint_of_a_store_arrive(open_backend: OpenBackend, proxy: Proxy, name: str) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(status=400, code="AuthorizationHeaderMalformed"))
    call = read(backend, "a") if name == "read" else backend.put_object(Key("a"), b"a")
    with pytest.raises(StorageError) as failed:
        await call
    assert "AuthorizationHeaderMalformed: no (S3_REGION or S3_ENDPOINT is not" in str(failed.value)


async def test_a_web_page_in_the_place_of_a_store_is_no_damage(open_backend: OpenBackend, proxy: Proxy) -> None:
    """The page comes from the address of a console, or from a sign-in page in between."""
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(status=302, code="x"))
    for call in (read(backend, "a"), backend.probe()):
        with pytest.raises((StoragePermission, StorageUnavailable, StorageError)) as failed:
            await call
        assert not isinstance(failed.value, ObjectNotFound)
