"""Speak the protocols of resumable uploads for `ResumingClient`: each begins an upload, asks for its offset and appends to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from tests.api.uploads.upload_clients import (
    TUS,
    append_tus,
    completeness,
    create_tus,
    ietf_append_fields,
    ietf_creation_fields,
)
from tests.campaign.resumed_upload import ResumedUpload
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import UploadConnection

NEWEST_VERSION = 8
OLDER_VERSIONS = (3, 5, 6, 7)
FIRST_VERSION_WITH_LENGTH = 6


@dataclass(frozen=True, slots=True)
class Caller:
    service: Service
    account: Account
    client: httpx.Client


class UploadSpeaker(Protocol):
    """Records in the upload what the service acknowledges, and the asset in the last response. Raises `httpx.TransportError` and `OSError`
    where the connection breaks."""

    @property
    def name(self) -> str: ...

    def begin(self, caller: Caller, upload: ResumedUpload) -> None: ...

    def ask_offset(self, caller: Caller, upload: ResumedUpload) -> None: ...

    def append(self, caller: Caller, upload: ResumedUpload) -> None: ...


class TusSpeaker:
    """tus 1.0. Creates an upload without a body."""

    name = "tus"

    def begin(self, caller: Caller, upload: ResumedUpload) -> None:
        answer = create_tus(caller.client, len(upload.data))
        assert answer.status_code == 201, answer.text
        upload.location, upload.offset = urlsplit(answer.headers["location"]).path, 0

    def ask_offset(self, caller: Caller, upload: ResumedUpload) -> None:
        answer = caller.client.head(upload.location, headers=TUS)
        assert answer.status_code == 200, answer.headers
        upload.acknowledge(int(answer.headers["upload-offset"]))

    def append(self, caller: Caller, upload: ResumedUpload) -> None:
        answer = append_tus(caller.client, upload.location, upload.offset or 0, upload.take_chunk())
        assert answer.status_code in (200, 204), answer.text
        upload.acknowledge(int(answer.headers["upload-offset"]))
        if answer.status_code == 200:
            upload.asset = answer.json()["id"]


class IetfSpeaker:
    """The IETF draft. Creates an upload with the first bytes. What interim responses tell (104) counts as told."""

    def __init__(self, version: int) -> None:
        self._version = version
        self.name = f"the draft's version {version}"

    def begin(self, caller: Caller, upload: ResumedUpload) -> None:
        upload.offset = 0
        fields = ietf_creation_fields(upload.data, version=self._version, is_complete=upload.is_last_request_next)
        if self._version >= FIRST_VERSION_WITH_LENGTH:
            fields["upload-length"] = str(len(upload.data))
        self._send(caller, upload, "POST", fields)

    def ask_offset(self, caller: Caller, upload: ResumedUpload) -> None:
        answer = caller.client.head(upload.location, headers=completeness(self._version, is_complete=False))
        assert answer.status_code == 204, answer.headers
        upload.acknowledge(int(answer.headers["upload-offset"]))

    def append(self, caller: Caller, upload: ResumedUpload) -> None:
        is_last = upload.is_last_request_next
        fields = ietf_append_fields(upload.offset or 0, version=self._version, is_complete=is_last)
        self._send(caller, upload, "PATCH", fields)

    def _send(self, caller: Caller, upload: ResumedUpload, method: str, fields: Mapping[str, str]) -> None:
        is_last, body = upload.is_last_request_next, upload.take_chunk()
        framing = {"x-api-key": caller.account.key, "content-length": str(len(body))}
        with UploadConnection(caller.service.port) as connection:
            connection.send_head(method, upload.location or "/api/upload", {**fields, **framing})
            if not upload.location:
                interim = connection.head()
                assert interim[0] == 104, interim
                upload.location = urlsplit(interim[1]["location"]).path
            connection.send(body)
            answer = connection.answer(on_interim=lambda told: upload.acknowledge(int(told["upload-offset"])))
        success = (200, 201) if is_last else (201,) if method == "POST" else (204,)
        assert answer.status in success, answer
        upload.acknowledge(int(answer.headers["upload-offset"]))
        if not answer.whole:
            raise ConnectionError("the connection ended inside an answer")
        if is_last:
            upload.asset = answer.json()["id"]
