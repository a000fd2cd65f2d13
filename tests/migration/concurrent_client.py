"""`ConcurrentClient`: reads, uploads and deletes photos while the library is moved."""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import upload

WAIT_SECONDS = 60.0
UPLOAD_BYTES = (0, 1, 3000, 200_000)
RANGED_BYTES = 1000


@dataclass(slots=True)
class SeenAsset:
    """An asset as a client first saw it: SHA-256, size in bytes and ETag."""

    sha256: str
    size: int
    etag: str | None = None


@dataclass(slots=True)
class RequestCounts:
    read: int = 0
    uploaded: int = 0
    deleted: int = 0


class ConcurrentClient:
    """`with ConcurrentClient(…)`: works in a thread until the block ends, and then raises its first error."""

    def __init__(self, service: Service, account: Account, known: dict[str, SeenAsset], seed: int) -> None:
        self.known = known
        self.counts = RequestCounts()
        self.gone: set[str] = set()
        self._favourites = set(list(known)[: len(known) * 2 // 3])
        self._service = service
        self._account = account
        self._dice = random.Random(seed)
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive(), "a request never ended"
        if self._failure is not None:
            raise self._failure

    def look_at_all(self) -> None:
        """Read every asset once, and check that deleted ones are gone."""
        with self._service.client(self._account, timeout=WAIT_SECONDS) as client:
            for asset in self.known:
                self._read(client, asset)
            for asset in self.gone:
                assert client.get(f"/api/assets/{asset}").status_code == 404

    def _work(self) -> None:
        try:
            with self._service.client(self._account, timeout=WAIT_SECONDS) as client:
                while not self._stopped.is_set():
                    self._act(client)
        except BaseException as failure:  # noqa: BLE001 - told at the end of the block
            self._failure = failure

    def _act(self, client: httpx.Client) -> None:
        chance = self._dice.random()
        if chance < 0.1:
            self._upload(client)
        elif chance < 0.16 and len(self.known) > len(self._favourites):
            self._delete(client)
        else:
            self._read(client, self._dice.choice(list(self.known)))

    def _read(self, client: httpx.Client, asset: str) -> None:
        seen = self.known[asset]
        if seen.size > RANGED_BYTES and self._dice.random() < 0.3:
            answer = client.get(f"/api/assets/{asset}/original", headers={"range": f"bytes=0-{RANGED_BYTES - 1}"})
            assert answer.status_code == 206, (asset, answer.status_code, answer.text)
            assert len(answer.content) == RANGED_BYTES
        else:
            answer = client.get(f"/api/assets/{asset}/original")
            assert answer.status_code == 200, (asset, answer.status_code, answer.text)
            assert hashlib.sha256(answer.content).hexdigest() == seen.sha256, asset
        seen.etag = seen.etag or answer.headers["etag"]
        assert answer.headers["etag"] == seen.etag, "the ETag has changed"
        self.counts.read += 1

    def _upload(self, client: httpx.Client) -> None:
        data = self._dice.randbytes(8) + bytes(self._dice.choice(UPLOAD_BYTES))
        answer = upload(client, data)
        assert answer.status_code == 201, answer.text
        self.known[answer.json()["id"]] = SeenAsset(hashlib.sha256(data).hexdigest(), len(data))
        self.counts.uploaded += 1

    def _delete(self, client: httpx.Client) -> None:
        asset = self._dice.choice([each for each in self.known if each not in self._favourites])
        answer = client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True})
        assert answer.status_code == 204, answer.text
        del self.known[asset]
        self.gone.add(asset)
        self.counts.deleted += 1
