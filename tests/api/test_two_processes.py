"""Two service processes on one catalogue and one media location, with SQLite too: changes at one take effect at the other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import pytest

from app.api.ttl_cache import TTL_SECONDS
from tests.api.consistency import assert_consistent, read_state
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

UPLOADS = 12
TAKES_EFFECT_SECONDS = TTL_SECONDS + 5.0


@pytest.fixture(scope="module")
def other_service(service: Service) -> Iterator[Service]:
    """A second service process on the data of `service`."""
    with Service(service.stack) as running:
        yield running


@pytest.fixture
def there(other_service: Service, account: Account) -> Iterator[httpx.Client]:
    with other_service.client(account) as client:
        yield client


def test_uploads_at_both_at_once_keep_each_content_once(
    service: Service, other_service: Service, account: Account, client: httpx.Client, there: httpx.Client
) -> None:
    contents = [fresh_bytes(20_000) for _ in range(UPLOADS)]
    together = Barrier(4)

    def send(place: Service) -> list[httpx.Response]:
        with place.client(account) as sender:
            together.wait(30)
            return [upload(sender, content) for content in contents]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, [service, other_service, service, other_service]))

    assert {answer.status_code for sent in answers for answer in sent} <= {200, 201}
    for content, *about in zip(contents, *answers, strict=True):
        assert sorted(answer.status_code for answer in about) == [200, 200, 200, 201]
        (asset,) = {answer.json()["id"] for answer in about}
        for reader in (client, there):
            assert reader.get(f"/api/assets/{asset}/original").content == content
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
    assert (
        len([file for file in read_state(service.stack).files if file.owner_id.replace("-", "") == account.id.hex])
        == UPLOADS
    )


def test_what_ends_at_one_soon_ends_at_the_other(
    other_service: Service, client: httpx.Client, there: httpx.Client
) -> None:
    data = fresh_bytes(50_000)
    asset = uploaded(client, data)
    lent = client.post("/api/api-keys", json={"name": "lent", "permissions": ["all"]}).json()
    headers = {"x-api-key": lent["secret"]}
    with other_service.client() as stranger:
        assert there.get(f"/api/assets/{asset}/original").content == data
        assert stranger.get("/api/users/me", headers=headers).status_code == 200

        assert client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True}).status_code == 204
        assert client.delete(f"/api/api-keys/{lent['apiKey']['id']}").status_code == 204

        assert client.get(f"/api/assets/{asset}/original").status_code == 404
        eventually(
            lambda: (
                there.get(f"/api/assets/{asset}/original").status_code == 404
                and stranger.get("/api/users/me", headers=headers).status_code == 401
            ),
            "asset and key are gone there, too",
            within=TAKES_EFFECT_SECONDS,
        )
