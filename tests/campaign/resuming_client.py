"""A client that uploads files chunk by chunk, and goes on after each death of the service where the service says."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle

import httpx

from tests.campaign.resumed_upload import ResumedUpload
from tests.campaign.upload_speakers import Caller, UploadSpeaker
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import some_bytes
from tests.real.waiting import eventually

WAIT_SECONDS = 30.0


class ResumingClient:
    """Uploads files of `size` bytes, each by the next one of `speakers`, over and over."""

    def __init__(
        self,
        service: Service,
        account: Account,
        size: int,
        dice: random.Random,
        speakers: Iterable[UploadSpeaker],
    ) -> None:
        self._service = service
        self._account = account
        self._size = size
        self._dice = dice
        self._speakers = cycle(speakers)
        self.completed: list[ResumedUpload] = []
        self.current = self._prepare(())

    def prepare(self, ends: tuple[int, ...], speaker: UploadSpeaker | None = None) -> None:
        """Upload the next file in requests that end at these offsets, and then its rest; by `speaker`, if one is given."""
        self.current = self._prepare(ends, speaker)

    def work_until_death(self) -> None:
        """Upload until the service is dead: when a file is complete, the next one. Raises any other failure."""
        try:
            with self._calling() as caller:
                while True:
                    self._act(caller)
        except (httpx.TransportError, OSError) as error:
            eventually(lambda: not self._service.running, f"the service is dead, and not only: {error!r}")
            self.current.offset = None

    def complete(self) -> None:
        """Complete the current upload."""
        count = len(self.completed)
        with self._calling() as caller:
            while len(self.completed) == count:
                self._act(caller)

    @contextmanager
    def _calling(self) -> Iterator[Caller]:
        with self._service.client(self._account, timeout=WAIT_SECONDS) as client:
            yield Caller(self._service, self._account, client)

    def _prepare(self, ends: tuple[int, ...], speaker: UploadSpeaker | None = None) -> ResumedUpload:
        self._speaker = speaker or next(self._speakers)
        return ResumedUpload(self._speaker.name, some_bytes(self._size, self._dice.randrange(2**32)), ends)

    def _act(self, caller: Caller) -> None:
        upload = self.current
        if upload.asset:
            self._check(caller.client, upload)
            self.completed.append(upload)
            self.prepare(upload.ends)
        elif not upload.location:
            self._speaker.begin(caller, upload)
        elif upload.offset is None:
            self._speaker.ask_offset(caller, upload)
        else:
            self._speaker.append(caller, upload)

    def _check(self, client: httpx.Client, upload: ResumedUpload) -> None:
        answer = client.get(f"/api/assets/{upload.asset}/original")
        assert answer.status_code == 200, f"acknowledged, but {answer.status_code}: {upload.asset}"
        assert hashlib.sha1(answer.content).digest() == hashlib.sha1(upload.data).digest()
