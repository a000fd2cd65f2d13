"""Checks of an installation: during the load that what was revoked and deleted is refused everywhere; at the end that all is there and right."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from app.api.ttl_cache import TTL_SECONDS
from app.catalog.schema.records import TaskKind
from tests.api.consistency import assert_consistent
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.sweeping import sweep_everything
from tests.real.waiting import eventually
from tests.scale.acknowledged import AcknowledgedLibrary, AssetState
from tests.scale.installation import Installation
from tests.scale.repeating_client import REFUSALS

PASS_SECONDS = 0.5
PATIENCE_SECONDS = 2.0
"""A process that is stopped is asked again later."""
TASKS_SECONDS = 120.0
VERIFY_SECONDS = 300.0


class RefusalCheck:
    """Asks each process for what was revoked or deleted five seconds ago, once for each, from a thread."""

    def __init__(self, services: Sequence[Service], libraries: Sequence[tuple[Account, AcknowledgedLibrary]]) -> None:
        self._services = services
        self._libraries = libraries
        self._checked: dict[str, set[str]] = {service.url: set() for service in services}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._failure: BaseException | None = None

    @property
    def count(self) -> int:
        """How many refusals were seen."""
        return sum(map(len, self._checked.values()))

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Check, too, what was not checked before. All processes must run."""
        self._ended.set()
        self._thread.join(60)
        if self._failure is not None:
            raise self._failure
        time.sleep(TTL_SECONDS)
        for service in self._services:
            assert self._check(service), f"{service.url} does not answer"

    def _work(self) -> None:
        try:
            while not self._ended.wait(PASS_SECONDS):
                for service in self._services:
                    self._check(service)
        except BaseException as failure:  # noqa: BLE001 - raised by `end`
            self._failure = failure

    def _check(self, service: Service) -> bool:
        """False if the process did not answer, or could not tell."""
        checked = self._checked[service.url]
        with service.client(timeout=PATIENCE_SECONDS) as client:
            for name, path, headers, refusal in self._due():
                if name in checked:
                    continue
                try:
                    answer = client.get(path, headers=headers)
                except httpx.TransportError:
                    return False
                if answer.status_code in REFUSALS:
                    return False
                assert answer.status_code == refusal, f"not refused: {path}, {answer.status_code} from {service.url}"
                checked.add(name)
        return True

    def _due(self) -> Iterable[tuple[str, str, dict[str, str], int]]:
        """Name, path, headers and the expected status."""
        before = time.monotonic() - TTL_SECONDS
        for account, library in self._libraries:
            for revoked in [*library.revoked_keys]:
                if revoked.revoked_at < before:
                    yield revoked.key, "/api/users/me", {"x-api-key": revoked.key}, 401
            for asset in library.in_state(AssetState.GONE):
                if asset.changed_at < before:
                    yield asset.id, f"/api/assets/{asset.id}/original", account.headers, 404


def check_originals(service: Service, account: Account, library: AcknowledgedLibrary) -> None:
    """Every acknowledged asset is there, with the bytes that were sent, and no deleted one."""
    with service.client(account) as client:
        listed = client.post("/api/search/metadata", json={"size": 1000}).json()["assets"]["items"]
        kept = {asset.id: asset for asset in library.in_state(AssetState.KEPT)}
        assert kept.keys() <= {item["id"] for item in listed}
        assert not {item["id"] for item in listed} & {asset.id for asset in library.in_state(AssetState.GONE)}
        for asset in kept.values():
            answer = client.get(f"/api/assets/{asset.id}/original")
            assert answer.status_code == 200, f"acknowledged, but {answer.status_code} from {service.url}: {asset.id}"
            assert hashlib.sha256(answer.content).digest() == asset.content.sha256, f"other bytes: {asset.id}"


def check_derivatives(installation: Installation, libraries: Sequence[tuple[Account, AcknowledgedLibrary]]) -> int:
    """Every asset gets its derivatives in time; returns the number of assets."""
    people = installation.api[0].people

    def is_done() -> bool:
        counts = people.call(lambda catalog: catalog.tasks.count_by_kind())
        return not any(counts[kind].pending or counts[kind].running for kind in TaskKind)

    eventually(is_done, "everything is processed", within=TASKS_SECONDS)
    assert people.call(lambda catalog: catalog.tasks.get_failures()) == []
    number = 0
    for account, library in libraries:
        with installation.api[0].client(account) as client:
            for asset in library.in_state(AssetState.KEPT):
                for size in ("thumbnail", "preview"):
                    answer = client.get(f"/api/assets/{asset.id}/thumbnail", params={"size": size})
                    assert answer.status_code == 200, f"no {size} of {asset.id}: {answer.text}"
                number += 1
    return number


def check_everything(installation: Installation, libraries: Sequence[tuple[Account, AcknowledgedLibrary]]) -> int:
    """All checks at the end, on each process. Stops the installation. Returns the number of assets."""
    with ThreadPoolExecutor(len(installation.api)) as threads:
        checks = [
            threads.submit(check_originals, service, account, library)
            for service in installation.api
            for account, library in libraries
        ]
        for check in checks:
            check.result()
    number = check_derivatives(installation, libraries)
    verified = installation.api[0].run("verify", "--checksums", within=VERIFY_SECONDS)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    installation.stop()
    sweep_everything(installation.api[0])
    assert_consistent(installation.stack, exact=True)
    assert installation.stack.leftovers() == []
    return number
