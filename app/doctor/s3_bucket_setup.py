"""Checks the configuration of an S3 bucket: encryption, pre-signed links, CORS, lifecycle rules. Whether
objects can be stored and read is checked in `s3_calls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.config import S3Delivery, S3Encryption, Settings
from app.doctor.findings import ReportSection, UnexpectedResult
from app.doctor.scratch_objects import ScratchObjects
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.s3 import S3Backend
from app.storage.s3.protocol.upload_body import UploadBody

LINK_SECONDS = 60
_RULE_HINT = "docs/s3.md has a rule that aborts unfinished multipart uploads"
_TYPE, _DISPOSITION = "image/png", 'attachment; filename="a.png"'


async def check_bucket_setup(
    section: ReportSection, backend: S3Backend, settings: Settings, scratch: ScratchObjects
) -> None:
    key = scratch.create_key("rules")
    try:
        body = UploadBody(b"x", with_checksum=backend.client.sends_own_checksums)
        await backend.client.put(key, body, content_type=None, metadata={}, if_absent=False)
    except StorageError as error:
        section.fail("rules", error.detail, error.hint)
        return
    if settings.s3_sse is None:
        section.skip("encryption", "S3_SSE is not set: the bucket's default applies")
    else:
        await section.run_check("encryption", _check_encryption(backend, settings.s3_sse, key))
    if settings.s3_delivery is S3Delivery.REDIRECT:
        await section.run_check("direct links", _check_direct_link(backend, key))
        await _check_cors(section, backend, settings, key)
    else:
        section.skip("direct links", "S3_DELIVERY is proxy")
    await _check_lifecycle(section, backend, settings)


async def _check_encryption(backend: S3Backend, expected: S3Encryption, key: str) -> str:
    actual = (await backend.client.call_operation("head_object", key)).get("ServerSideEncryption")
    if actual != expected.value:
        raise UnexpectedResult(
            f"{expected.value} was asked for, {actual or 'none'} is told", "S3_SSE: does the store have it?"
        )
    return expected.value


async def _check_direct_link(backend: S3Backend, key: str) -> str:
    link = await backend.client.presign_get(key, LINK_SECONDS, content_type=_TYPE, disposition=_DISPOSITION)
    status, headers, body = await backend.reader.fetch_link(link, {})
    if status != 200 or body != b"x":
        raise UnexpectedResult(f"a signed link is answered by {status}")
    if headers.get("Content-Type") != _TYPE or headers.get("Content-Disposition") != _DISPOSITION:
        raise UnexpectedResult(
            "type and name that a link asks for are not sent", "use S3_DELIVERY=proxy with this store"
        )
    return "with type and name; that clients reach the store is not tried"


async def _check_cors(section: ReportSection, backend: S3Backend, settings: Settings, key: str) -> None:
    origin = settings.public_url or "https://photos.example"
    link = await backend.client.presign_get(key, LINK_SECONDS)
    try:
        _, headers, _ = await backend.reader.fetch_link(link, {"Origin": origin})
    except StorageError as error:
        section.fail("CORS", error.detail, error.hint)
        return
    allowed = headers.get("Access-Control-Allow-Origin")
    if allowed in ("*", origin):
        section.ok("CORS", f"allows {allowed}")
    else:
        hint = (
            "pictures and downloads work; let the bucket's CORS rules allow GET from the service's address for scripts"
        )
        section.warn("CORS", f"{origin} may not read by script", hint)


async def _check_lifecycle(section: ReportSection, backend: S3Backend, settings: Settings) -> None:
    try:
        rules: Sequence[Mapping[str, Any]] = (
            await backend.client.call_operation("get_bucket_lifecycle_configuration")
        )["Rules"]
    except ObjectNotFound:
        rules = ()
    except (StorageError, KeyError):
        section.skip("lifecycle", "the rules may not be read")
        return
    ours = [rule for rule in rules if rule.get("Status") == "Enabled" and _applies_to_prefix(rule, settings.s3_prefix)]
    harmful = [str(rule.get("ID", "without a name")) for rule in ours if _removes_objects(rule)]
    if harmful:
        hint = "only rules that abort uploads, or expire old versions, may hold below S3_PREFIX"
        section.fail("lifecycle", f"expires objects, or moves them to an archive: {', '.join(harmful)}", hint)
    elif any("AbortIncompleteMultipartUpload" in rule for rule in ours):
        section.ok("lifecycle", "unfinished uploads are aborted")
    else:
        section.warn("lifecycle", "no rule aborts unfinished uploads", _RULE_HINT)


def _applies_to_prefix(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether a lifecycle rule may apply to our objects. Rules that filter by tag do not: our objects have no tags."""
    rule_filter: Mapping[str, Any] = rule.get("Filter", {})
    conjunction: Mapping[str, Any] = rule_filter.get("And", {})
    if "Tag" in rule_filter or conjunction.get("Tags"):
        return False
    rule_prefix = str(rule_filter.get("Prefix") or conjunction.get("Prefix") or rule.get("Prefix") or "")
    our_prefix = f"{prefix}/" if prefix else ""
    return our_prefix.startswith(rule_prefix) or rule_prefix.startswith(our_prefix)


def _removes_objects(rule: Mapping[str, Any]) -> bool:
    """Whether a lifecycle rule deletes current objects, or moves them to a storage class that cannot be read at once."""
    expiration: Mapping[str, Any] = rule.get("Expiration", {})
    transitions: Sequence[Mapping[str, Any]] = rule.get("Transitions", ())
    archived = any(str(step.get("StorageClass")) in ("GLACIER", "DEEP_ARCHIVE") for step in transitions)
    return bool({"Days", "Date"} & expiration.keys()) or archived
