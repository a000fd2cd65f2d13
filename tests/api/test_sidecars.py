"""Sidecars of uploads through the API, on both stacks."""

from __future__ import annotations

import httpx

from tests.api.consistency import assert_consistent
from tests.real.service import Service
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes, upload, uploaded


def test_a_duplicate_adds_a_sidecar_and_a_favourite_and_says_so(service: Service, client: httpx.Client) -> None:
    data, sidecar = fresh_bytes(5000), b"<x:xmpmeta/>"
    asset = uploaded(client, data)
    charged = client.get("/api/users/me").json()["quotaUsageInBytes"]

    plain = upload(client, data)
    added = upload(client, data, fields={"isFavorite": "true"}, sidecar=sidecar)
    again = upload(client, data, fields={"isFavorite": "true"}, sidecar=b"<other/>")

    assert [each.status_code for each in (plain, added, again)] == [200, 200, 200]
    assert plain.json() == again.json() == {"id": asset, "status": "duplicate"}
    assert added.json() == {"id": asset, "status": "duplicate", "added": ["sidecar", "favorite"]}
    assert client.get(f"/api/assets/{asset}").json()["isFavorite"]
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == charged + len(sidecar)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)

    assert client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True}).status_code == 204
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == charged - len(data)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
