"""A client that uploads files by tus, chunk by chunk, and goes on after each death of the service where the service says."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from tests.api.uploads.upload_clients import TUS, append_tus, create_tus
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import some_bytes
from tests.real.waiting import eventually

WAIT_SECONDS = 30.0


@dataclass(slots=True)
class ResumedUpload:
    """`ends`: offsets at which requests end. `offset`: where to continue, None if it must be asked for. `acknowledged`: the highest offset
    that the service has told. `repeated`: bytes that were sent although they were acknowledged. `asset`: the id in the last response."""

    data: bytes
    ends: tuple[int, ...]
    location: str = ""
    offset: int | None = 0
    acknowledged: int = 0
    repeated: int = 0
    sent: int = 0
    asset: str = ""

    def acknowledge(self, offset: int) -> None:
        assert offset >= self.acknowledged, f"{self.acknowledged} bytes were acknowledged, and then {offset}"
        self.offset = self.acknowledged = offset

    def take_chunk(self) -> bytes:
        """The bytes of the next request: none where all are acknowledged, and only the response is missing."""
        start = self.offset or 0
        chunk = self.data[start : next((end for end in self.ends if end > start), None)]
        self.sent += len(chunk)
        self.repeated += max(0, min(self.acknowledged, start + len(chunk)) - start)
        return chunk


class ResumingClient:
    """`chunks`: the sizes of an upload's first requests; the last one sends the rest of `size` bytes."""

    def __init__(self, service: Service, account: Account, size: int, dice: random.Random) -> None:
        self._service = service
        self._account = account
        self._size = size
        self._dice = dice
        self.completed: list[ResumedUpload] = []
        self.current = self._prepare(())

    def prepare(self, ends: tuple[int, ...]) -> None:
        """Upload the next file in requests that end at these offsets."""
        self.current = self._prepare(ends)

    def work_until_death(self) -> None:
        """Upload until the service is dead: when a file is complete, the next one. Raises any other failure."""
        try:
            with self._service.client(self._account, timeout=WAIT_SECONDS) as client:
                while True:
                    self._act(client)
        except httpx.TransportError as error:
            eventually(lambda: not self._service.running, f"the service is dead, and not only: {error!r}")
            self.current.offset = None

    def complete(self) -> None:
        """Complete the current upload."""
        count = len(self.completed)
        with self._service.client(self._account, timeout=WAIT_SECONDS) as client:
            while len(self.completed) == count:
                self._act(client)

    def _prepare(self, ends: tuple[int, ...]) -> ResumedUpload:
        return ResumedUpload(some_bytes(self._size, self._dice.randrange(2**32)), ends)

    def _act(self, client: httpx.Client) -> None:
        upload = self.current
        if upload.asset:
            self._check(client, upload)
            self.completed.append(upload)
            self.prepare(upload.ends)
        elif not upload.location:
            answer = create_tus(client, self._size)
            assert answer.status_code == 201, answer.text
            upload.location, upload.offset = urlsplit(answer.headers["location"]).path, 0
        elif upload.offset is None:
            answer = client.head(upload.location, headers=TUS)
            assert answer.status_code == 200, answer.headers
            upload.acknowledge(int(answer.headers["upload-offset"]))
        else:
            answer = append_tus(client, upload.location, upload.offset, upload.take_chunk())
            assert answer.status_code in (200, 204), answer.text
            upload.acknowledge(int(answer.headers["upload-offset"]))
            if answer.status_code == 200:
                upload.asset = answer.json()["id"]

    def _check(self, client: httpx.Client, upload: ResumedUpload) -> None:
        answer = client.get(f"/api/assets/{upload.asset}/original")
        assert answer.status_code == 200, f"acknowledged, but {answer.status_code}: {upload.asset}"
        assert hashlib.sha1(answer.content).digest() == hashlib.sha1(upload.data).digest()
