"""What is set up at an S3 store beside plain calls: encryption, direct links and CORS, lifecycle rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.config import S3Delivery, S3Encryption, Settings
from app.doctor.findings import Area, NotAsItShould
from app.doctor.scratch import Scratch
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.s3 import S3Backend
from app.storage.s3.body import Body

LINK_SECONDS = 60
_RULE_HINT = "docs/s3.md has a rule that aborts unfinished multipart uploads"
_TYPE, _DISPOSITION = "image/png", 'attachment; filename="a.png"'


async def check_rules(area: Area, backend: S3Backend, settings: Settings, scratch: Scratch) -> None:
    key = scratch.key("rules")
    try:
        body = Body(b"x", checksum=backend.client.own_checksums)
        await backend.client.put(key, body, content_type=None, metadata={}, once=False)
    except StorageError as error:
        area.fail("rules", error.detail, error.hint)
        return
    if settings.s3_sse is None:
        area.skip("encryption", "S3_SSE is not set: the bucket's default applies")
    else:
        await area.attempt("encryption", _encryption(backend, settings.s3_sse, key))
    if settings.s3_delivery is S3Delivery.REDIRECT:
        await area.attempt("direct links", _direct_link(backend, key))
        await _cors(area, backend, settings, key)
    else:
        area.skip("direct links", "S3_DELIVERY is proxy")
    await _lifecycle(area, backend, settings)


async def _encryption(backend: S3Backend, wanted: S3Encryption, key: str) -> str:
    used = (await backend.client.ask("head_object", key)).get("ServerSideEncryption")
    if used != wanted.value:
        raise NotAsItShould(
            f"{wanted.value} was asked for, {used or 'none'} is told", "S3_SSE: does the store have it?"
        )
    return wanted.value


async def _direct_link(backend: S3Backend, key: str) -> str:
    link = await backend.client.sign(key, LINK_SECONDS, content_type=_TYPE, disposition=_DISPOSITION)
    status, headers, body = await backend.reads.fetch(link, {})
    if status != 200 or body != b"x":
        raise NotAsItShould(f"a signed link is answered by {status}")
    if headers.get("Content-Type") != _TYPE or headers.get("Content-Disposition") != _DISPOSITION:
        raise NotAsItShould("type and name that a link asks for are not sent", "use S3_DELIVERY=proxy with this store")
    return "with type and name; that clients reach the store is not tried"


async def _cors(area: Area, backend: S3Backend, settings: Settings, key: str) -> None:
    origin = settings.public_url or "https://photos.example"
    link = await backend.client.sign(key, LINK_SECONDS)
    try:
        _, headers, _ = await backend.reads.fetch(link, {"Origin": origin})
    except StorageError as error:
        area.fail("CORS", error.detail, error.hint)
        return
    allowed = headers.get("Access-Control-Allow-Origin")
    if allowed in ("*", origin):
        area.ok("CORS", f"allows {allowed}")
    else:
        hint = (
            "pictures and downloads work; let the bucket's CORS rules allow GET from the service's address for scripts"
        )
        area.warn("CORS", f"{origin} may not read by script", hint)


async def _lifecycle(area: Area, backend: S3Backend, settings: Settings) -> None:
    try:
        rules: Sequence[Mapping[str, Any]] = (await backend.client.ask("get_bucket_lifecycle_configuration"))["Rules"]
    except ObjectNotFound:
        rules = ()
    except (StorageError, KeyError):
        area.skip("lifecycle", "the rules may not be read")
        return
    ours = [rule for rule in rules if rule.get("Status") == "Enabled" and _concerns(rule, settings.s3_prefix)]
    harmful = [str(rule.get("ID", "without a name")) for rule in ours if _takes_photos_away(rule)]
    if harmful:
        hint = "only rules that abort uploads, or expire old versions, may hold below S3_PREFIX"
        area.fail("lifecycle", f"expires objects, or moves them to an archive: {', '.join(harmful)}", hint)
    elif any("AbortIncompleteMultipartUpload" in rule for rule in ours):
        area.ok("lifecycle", "unfinished uploads are aborted")
    else:
        area.warn("lifecycle", "no rule aborts unfinished uploads", _RULE_HINT)


def _concerns(rule: Mapping[str, Any], prefix: str) -> bool:
    """Whether its objects and ours may be the same. Filters by tag concern nothing of ours: objects get no tags."""
    chosen: Mapping[str, Any] = rule.get("Filter", {})
    both: Mapping[str, Any] = chosen.get("And", {})
    if "Tag" in chosen or both.get("Tags"):
        return False
    wanted = str(chosen.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or "")
    own = f"{prefix}/" if prefix else ""
    return own.startswith(wanted) or wanted.startswith(own)


def _takes_photos_away(rule: Mapping[str, Any]) -> bool:
    expiration: Mapping[str, Any] = rule.get("Expiration", {})
    transitions: Sequence[Mapping[str, Any]] = rule.get("Transitions", ())
    archived = any(str(step.get("StorageClass")) in ("GLACIER", "DEEP_ARCHIVE") for step in transitions)
    return bool({"Days", "Date"} & expiration.keys()) or archived
