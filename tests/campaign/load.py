"""A client that uploads and deletes continuously, and records what the service acknowledged."""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass, field

import httpx

from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import upload
from tests.real.waiting import eventually

KIBIBYTE = 1024
SMALL_BYTES = (1 * KIBIBYTE, 150 * KIBIBYTE)
LARGE_BYTES = 9_000 * KIBIBYTE
"""More than one part on S3, and many writes on disk."""
WAIT_SECONDS = 30.0


@dataclass(slots=True)
class AcknowledgedState:
    """The acknowledged state of each asset. `kept`: id -> SHA-1. `gone`: permanently deleted. `uncertain`: a deletion
    was not answered. `unanswered`: the content of an upload that was not answered."""

    kept: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    uncertain: dict[str, bytes] = field(default_factory=dict)
    unanswered: bytes | None = None


class LoadClient:
    """Sends requests from a thread, from `begin` until the service dies or `end` is called."""

    def __init__(self, service: Service, account: Account, seed: int) -> None:
        self.account = account
        self.memory = AcknowledgedState()
        self._service = service
        self._dice = random.Random(seed)
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._failure: BaseException | None = None

    def begin(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop the thread. Raises its failure, unless the failure is the death of the service."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(WAIT_SECONDS)
            assert not self._thread.is_alive(), "a request never ended"
        if self._failure is not None:
            raise self._failure

    def check(self) -> None:
        """Check, after a restart, that the acknowledged state is true, and that the unanswered upload can be sent
        again."""
        with self._service.client(self.account) as client:
            self._settle_uncertain(client)
            for asset, sha1 in self._sample(self.memory.kept):
                answer = client.get(f"/api/assets/{asset}/original")
                assert answer.status_code == 200, f"acknowledged, but {answer.status_code}: {asset}"
                assert hashlib.sha1(answer.content).digest() == sha1, f"other bytes than were sent: {asset}"
            for asset in list(self.memory.gone)[-10:]:
                assert client.get(f"/api/assets/{asset}").status_code == 404, f"deleted, but still there: {asset}"
            if self.memory.unanswered is not None:
                data, self.memory.unanswered = self.memory.unanswered, None
                answer = upload(client, data)
                assert answer.status_code in (200, 201), answer.text
                asset = answer.json()["id"]
                self.memory.kept[asset] = hashlib.sha1(data).digest()
                assert client.get(f"/api/assets/{asset}/original").content == data

    def _settle_uncertain(self, client: httpx.Client) -> None:
        for asset, sha1 in self.memory.uncertain.items():
            answer = client.get(f"/api/assets/{asset}/original")
            assert answer.status_code in (200, 404)
            if answer.status_code == 200:
                assert hashlib.sha1(answer.content).digest() == sha1
                self.memory.kept[asset] = sha1
            else:
                self.memory.gone.add(asset)
        self.memory.uncertain.clear()

    def _sample(self, assets: dict[str, bytes]) -> list[tuple[str, bytes]]:
        """The latest assets, and a sample of the others."""
        known = list(assets.items())
        return known[-8:] + self._dice.sample(known[:-8], min(4, len(known[:-8])))

    def _work(self) -> None:
        try:
            with self._service.client(self.account, timeout=WAIT_SECONDS) as client:
                while not self._stopped.is_set():
                    self._act(client)
        except httpx.TransportError as error:
            try:
                eventually(lambda: not self._service.running, f"the service is dead, and not only: {error!r}")
            except AssertionError as failure:
                self._failure = failure
        except BaseException as failure:  # noqa: BLE001 - raised by `end`
            self._failure = failure

    def _act(self, client: httpx.Client) -> None:
        if len(self.memory.kept) < 3 or self._dice.random() < 0.6:
            self._upload(client)
        else:
            self._delete(client)

    def _upload(self, client: httpx.Client) -> None:
        size = LARGE_BYTES if self._dice.random() < 0.25 else self._dice.randrange(*SMALL_BYTES)
        data = self._dice.randbytes(size)
        self.memory.unanswered = data
        answer = upload(client, data)
        assert answer.status_code == 201, answer.text
        self.memory.kept[answer.json()["id"]] = hashlib.sha1(data).digest()
        self.memory.unanswered = None

    def _delete(self, client: httpx.Client) -> None:
        asset = self._dice.choice(list(self.memory.kept))
        force = self._dice.random() < 0.6
        self.memory.uncertain[asset] = self.memory.kept.pop(asset)
        answer = client.request("DELETE", "/api/assets", json={"ids": [asset], "force": force})
        assert answer.status_code == 204, answer.text
        sha1 = self.memory.uncertain.pop(asset)
        if force:
            self.memory.gone.add(asset)
        else:
            self.memory.kept[asset] = sha1
