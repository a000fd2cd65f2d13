"""A client that does everything at once that clients do, and compares each answer with what was acknowledged before.

A request may be refused or broken off: then the client tries again, as clients do. An answer that is wrong is a failure.
"""

from __future__ import annotations

import io
import random
import threading
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from tests.api.uploads.upload_clients import TUS, TUS_TYPE, metadata
from tests.real.accounts import Account
from tests.real.secrets import record_secret
from tests.real.uploads import FORM_TAIL, FORM_TYPE, form_head
from tests.scale.acknowledged import AcknowledgedLibrary, AssetState, KnownAsset
from tests.scale.contents import ContentFactory
from tests.scale.repeating_client import ACTION_SECONDS, PATIENCE_SECONDS, Received, RepeatingClient
from tests.scale.request_log import RequestLog

CONFLICTS = frozenset({409, 423})
"""Of resumable uploads: an older request still writes, or wrote, more than its client was told."""
MOST_KEPT = 120
LARGE_SHARE = 0.08
MOST_MEMBERS = 6


class LoadClient:
    """Acts from a thread, from `begin` until `end`."""

    def __init__(
        self, url: str, account: Account, library: AcknowledgedLibrary, log: RequestLog, seed: int, *, pause: float
    ) -> None:
        """`pause`: the longest pause between two actions, in seconds."""
        self.account = account
        self.library = library
        self._dice = random.Random(seed)
        self._contents = ContentFactory(self._dice)
        self._pause = pause
        self._client = RepeatingClient(url, account.headers, log, self._dice)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._failure: BaseException | None = None
        self._actions: dict[Callable[[], None], int] = {
            self._upload: 16,
            self._upload_resumably: 12,
            self._read_range: 24,
            self._download: 12,
            self._download_archive: 8,
            self._delete: 12,
            self._use_key: 4,
            self._list: 6,
            self._see_thumbnail: 6,
        }

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Finish the action under way, and raise the failure, if there was one."""
        self._ended.set()
        self._thread.join(ACTION_SECONDS + PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "an action never ended"
        self._client.close()
        if self._failure is not None:
            raise self._failure

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def _work(self) -> None:
        try:
            for act in self._actions:  # each at least once, in this order
                act()
            while not self._ended.wait(self._dice.uniform(0, self._pause)):
                self._choose_action()()
        except BaseException as failure:  # noqa: BLE001 - raised by `end`
            self._failure = failure

    def _choose_action(self) -> Callable[[], None]:
        kept = len(self.library.in_state(AssetState.KEPT))
        if kept > MOST_KEPT:
            return self._delete
        (act,) = self._dice.choices([*self._actions], [*self._actions.values()])
        return act

    def _upload(self) -> None:
        content = self._contents.make(large=self._dice.random() < LARGE_SHARE)
        body = form_head() + content.read(0, content.size) + FORM_TAIL
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            answer = self._client.send(
                "upload", "POST", "/api/assets", content=body, headers={"content-type": FORM_TYPE}
            )
            if answer is None or not answer.whole:
                return False
            # An attempt that was not answered may have succeeded.
            assert answer.status in ((201,) if attempts == 1 else (200, 201)), (answer.status, answer.body)
            self.library.add(answer.json()["id"], content)
            return True

        self._client.repeat("an upload is acknowledged", attempt)

    def _upload_resumably(self) -> None:
        content = self._contents.make(large=self._dice.random() < 2 * LARGE_SHARE)
        location, offset, acknowledged = "", None, 0

        def attempt() -> bool:
            nonlocal location, offset, acknowledged
            if not location:
                fields = {**TUS, "upload-length": str(content.size), "upload-metadata": metadata()}
                answer = self._client.send("tus creation", "POST", "/api/uploads", headers=fields)
                if answer is not None:
                    assert answer.status == 201, (answer.status, answer.body)
                    location, offset = urlsplit(answer.headers["location"]).path, 0
                return False
            if offset is None:
                answer = self._client.send("tus offset", "HEAD", location, headers=TUS, conflicts=CONFLICTS)
            else:
                end = min(content.size, offset + self._dice.randrange(1, content.size))
                fields = {**TUS, "content-type": TUS_TYPE, "upload-offset": str(offset)}
                chunk = content.read(offset, end)
                offset = None  # unknown until it is answered
                answer = self._client.send(
                    "tus chunk", "PATCH", location, content=chunk, headers=fields, conflicts=CONFLICTS
                )
            if answer is None:
                return False
            assert answer.status in (200, 204), (answer.status, answer.body)
            offset = int(answer.headers["upload-offset"])
            assert offset >= acknowledged, f"{acknowledged} bytes were acknowledged, and then {offset}"
            acknowledged = offset
            if "mediavault-asset-id" not in answer.headers:
                return False
            self.library.add(answer.headers["mediavault-asset-id"], content)
            return True

        self._client.repeat("a resumable upload is complete", attempt)

    def _read_range(self) -> None:
        for asset in self.library.choose(self._dice):
            start = self._dice.randrange(asset.content.size)
            end = self._dice.randrange(start + 1, asset.content.size + 1)
            self._read(asset, start, end, {"range": f"bytes={start}-{end - 1}"})

    def _download(self) -> None:
        """Download a file, and continue where the connection ends, as browsers do."""
        for chosen in self.library.choose(self._dice):
            with self.library.reading([chosen]) as assets:
                for asset in assets:
                    self._download_whole(asset)

    def _download_whole(self, asset: KnownAsset) -> None:
        received, etag = 0, ""

        def attempt() -> bool:
            nonlocal received, etag
            fields = {"range": f"bytes={received}-", "if-range": etag} if received else {}
            answer = self._read(asset, received, asset.content.size, fields)
            if answer is not None:
                etag = answer.headers["etag"]
                received += len(answer.body)
            return received == asset.content.size

        self._client.repeat("a download is whole", attempt)

    def _read(self, asset: KnownAsset, start: int, end: int, fields: Mapping[str, str]) -> Received | None:
        kind = "range" if fields else "file"
        answer = self._client.send(kind, "GET", f"/api/assets/{asset.id}/original", headers=dict(fields))
        if answer is None:
            return None
        if answer.status == 404:
            assert asset.state is not AssetState.KEPT, f"acknowledged, but not found: {asset.id}"
            return None
        assert answer.status == (206 if fields else 200), (answer.status, answer.body[:1000])
        expected = asset.content.read(start, end)
        assert answer.body == (expected if answer.whole else expected[: len(answer.body)]), (
            f"wrong bytes of {asset.id}, {start} to {end}: {len(answer.body)} bytes, {answer.headers}"
        )
        return answer

    def _download_archive(self) -> None:
        with self.library.reading(self.library.choose(self._dice, MOST_MEMBERS)) as members:
            if members:
                path, size, etag = self._make_link(members)
                _check_archive(self._receive_archive(path, size, etag), members)

    def _make_link(self, members: list[KnownAsset]) -> tuple[str, int, str]:
        made: dict[str, Any] = {}

        def attempt() -> bool:
            ids = [member.id for member in members]
            answer = self._client.send("link", "POST", "/api/download/links", json={"assetIds": ids})
            if answer is None or not answer.whole:
                return False
            assert answer.status == 201, (answer.status, answer.body)
            made.update(answer.json())
            return True

        self._client.repeat("a link is made", attempt)
        path = urlsplit(made["url"]).path
        record_secret(path.split("/")[4])
        return path, made["size"], made["etag"]

    def _receive_archive(self, path: str, size: int, etag: str) -> bytes:
        received = bytearray()

        def attempt() -> bool:
            fields = {"range": f"bytes={len(received)}-", "if-range": etag} if received else {}
            answer = self._client.send("archive", "GET", path, headers=fields)
            if answer is not None:
                assert answer.status == (206 if fields else 200), (answer.status, answer.body[:1000])
                assert answer.headers["etag"] == etag
                received.extend(answer.body)
            return len(received) >= size

        self._client.repeat("an archive is whole", attempt)
        assert len(received) == size
        return bytes(received)

    def _delete(self) -> None:
        asset = self.library.begin_deletion(self._dice)
        if asset is None:
            return
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            answer = self._client.send("deletion", "DELETE", "/api/assets", json={"ids": [asset.id], "force": True})
            if answer is None:
                return False
            # An attempt that was not answered may have succeeded; nginx, too, sends a DELETE again.
            assert answer.status == 204 or (answer.status == 404 and self._may_be_repeated(attempts)), (
                answer.status,
                answer.body,
            )
            return True

        self._client.repeat("a deletion is acknowledged", attempt)
        self.library.end_deletion(asset)

    def _may_be_repeated(self, attempts: int) -> bool:
        return attempts > 1 or bool(self._client.log.failures)

    def _use_key(self) -> None:
        """Make a key, use it, revoke it."""
        created: dict[str, Any] = {}

        def create() -> bool:
            answer = self._client.send("key", "POST", "/api/api-keys", json={"name": "load", "permissions": ["all"]})
            if answer is None or not answer.whole:
                return False
            assert answer.status == 201, (answer.status, answer.body)
            created.update(answer.json())
            return True

        def use() -> bool:
            answer = self._client.send("key use", "GET", "/api/users/me", headers={"x-api-key": created["secret"]})
            assert answer is None or answer.status == 200, (answer.status, answer.body)
            return answer is not None

        def revoke() -> bool:
            answer = self._client.send("revocation", "DELETE", f"/api/api-keys/{created['apiKey']['id']}")
            assert answer is None or answer.status in (204, 404), (answer.status, answer.body)
            return answer is not None

        self._client.repeat("a key is created", create)
        record_secret(created["secret"])
        for _ in range(self._dice.randrange(1, 4)):
            self._client.repeat("a key works", use)
        self._client.repeat("a revocation is acknowledged", revoke)
        self.library.add_revoked(created["secret"])

    def _list(self) -> None:
        kept = self.library.in_state(AssetState.KEPT)
        gone = {asset.id for asset in self.library.in_state(AssetState.GONE)}
        answer = self._client.send("listing", "POST", "/api/search/metadata", json={"size": 1000})
        if answer is None or not answer.whole:
            return
        assert answer.status == 200, (answer.status, answer.body)
        listed = {item["id"] for item in answer.json()["assets"]["items"]}
        assert not listed & gone, "deleted, but still listed"
        missing = [asset.id for asset in kept if asset.id not in listed and asset.state is AssetState.KEPT]
        assert not missing, f"acknowledged, but not listed: {missing}"

    def _see_thumbnail(self) -> None:
        for asset in self.library.choose(self._dice):
            answer = self._client.send("thumbnail", "GET", f"/api/assets/{asset.id}/thumbnail")
            if answer is not None and answer.status == 200:
                assert b"RIFF".startswith(answer.body[:4])
            elif answer is not None:  # it is not made yet
                assert answer.status == 404, (answer.status, answer.body)


def _check_archive(data: bytes, members: list[KnownAsset]) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = sorted(sha256(archive.read(name)).digest() for name in archive.namelist())
    assert found == sorted(member.content.sha256 for member in members), "an archive has other contents"
