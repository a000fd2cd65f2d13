"""Plain clients of both protocols of resumable uploads: they build the header fields, and nothing more."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import httpx

from tests.real.uploads import FIELDS

TUS = {"tus-resumable": "1.0.0"}
TUS_TYPE = "application/offset+octet-stream"
ATTEMPTS = 20
PARTIAL_UPLOAD = "application/partial-upload"


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def metadata(name: str = "photo.jpg", fields: Mapping[str, str] | None = None) -> str:
    """The value of `Upload-Metadata`."""
    pairs = {"filename": name, **FIELDS, **(fields or {})}
    return ",".join(f"{key} {encode(value)}" for key, value in pairs.items())


def create_tus(
    client: httpx.Client,
    length: int | None,
    *,
    name: str = "photo.jpg",
    data: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """`POST /api/uploads`; `length` None defers it, `data` are the first bytes."""
    told = {"upload-defer-length": "1"} if length is None else {"upload-length": str(length)}
    body = {} if data is None else {"content-type": TUS_TYPE}
    fields = {**TUS, **told, **body, "upload-metadata": metadata(name), **(headers or {})}
    return client.post("/api/uploads", content=data, headers=fields)


def begun_tus(client: httpx.Client, length: int | None, *, name: str = "photo.jpg") -> str:
    """Create an upload, and return its location."""
    answer = create_tus(client, length, name=name)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def append_tus(
    client: httpx.Client, location: str, offset: int, data: bytes, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    fields = {**TUS, "content-type": TUS_TYPE, "upload-offset": str(offset), **(headers or {})}
    return client.patch(location, content=data, headers=fields)


def tus_offset(client: httpx.Client, location: str) -> int:
    answer = client.head(location, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def finish_tus(client: httpx.Client, location: str, data: bytes) -> str:
    """Continue as clients do, until the upload of `data` is complete: requests of broken connections may still arrive and take the upload
    over. Returns the asset's id."""
    for _ in range(ATTEMPTS):
        status = client.head(location, headers=TUS)
        if status.status_code == 200:
            offset = int(status.headers["upload-offset"])
            answer = append_tus(client, location, offset, data[offset:])
            if answer.status_code == 200:
                return answer.json()["id"]
            status = answer
        assert status.status_code in (409, 423), status.text
    raise AssertionError(f"not complete after {ATTEMPTS} attempts")


def sha1_digest(data: bytes) -> str:
    """The value of `Repr-Digest`."""
    return f"sha=:{base64.b64encode(hashlib.sha1(data).digest()).decode()}:"


def asset_data(name: str = "photo.jpg", **fields: Any) -> str:
    """The value of `x-immich-asset-data`."""
    return encode(json.dumps({"filename": name, "deviceAssetId": "1", "deviceId": "test", **FIELDS, **fields}))


def completeness(version: int | None, *, is_complete: bool) -> dict[str, str]:
    """The fields that tell the version, and whether the upload ends with the request."""
    told = {} if version is None else {"upload-draft-interop-version": str(version)}
    if version == 3:
        return {**told, "upload-incomplete": "?0" if is_complete else "?1"}
    return {**told, "upload-complete": "?1" if is_complete else "?0"}


def ietf_creation_fields(
    data: bytes, *, version: int | None = 8, is_complete: bool, name: str = "photo.jpg"
) -> dict[str, str]:
    return {
        **completeness(version, is_complete=is_complete),
        "x-immich-asset-data": asset_data(name),
        "repr-digest": sha1_digest(data),
    }


def ietf_append_fields(offset: int, *, version: int | None = 8, is_complete: bool) -> dict[str, str]:
    return {
        **completeness(version, is_complete=is_complete),
        "upload-offset": str(offset),
        "content-type": PARTIAL_UPLOAD,
    }


def begun_ietf(
    client: httpx.Client,
    data: bytes,
    *,
    first: bytes = b"",
    version: int | None = 8,
    length: int | None = None,
) -> str:
    """Create an upload of `data`, of which `first` comes at once; returns its location."""
    fields = ietf_creation_fields(data, version=version, is_complete=False)
    if length is not None:
        fields["upload-length"] = str(length)
    answer = client.post("/api/upload", content=first, headers=fields)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def append_ietf(
    client: httpx.Client, location: str, offset: int, data: bytes, *, version: int | None = 8, is_complete: bool
) -> httpx.Response:
    fields = ietf_append_fields(offset, version=version, is_complete=is_complete)
    return client.patch(location, content=data, headers=fields)


def ietf_offset(client: httpx.Client, location: str, *, version: int | None = 8) -> int:
    answer = client.head(location, headers=completeness(version, is_complete=False))
    assert answer.status_code == 204
    return int(answer.headers["upload-offset"])


def finish_ietf(client: httpx.Client, location: str, data: bytes, *, version: int | None = 8) -> str:
    """As `finish_tus`, by the IETF draft."""
    for _ in range(ATTEMPTS):
        status = client.head(location, headers=completeness(version, is_complete=False))
        if status.status_code == 204:
            offset = int(status.headers["upload-offset"])
            answer = append_ietf(client, location, offset, data[offset:], version=version, is_complete=True)
            if answer.status_code == 201:
                return answer.json()["id"]
            status = answer
        assert status.status_code == 409, status.text
    raise AssertionError(f"not complete after {ATTEMPTS} attempts")
