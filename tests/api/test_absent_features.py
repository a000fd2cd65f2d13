"""What Immich has and this service has not: lists are empty, and writing is refused with a reason."""

from __future__ import annotations

import httpx

from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service

__all__ = ["stack"]

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
LISTS = {
    "album.read": ["albums"],
    "asset.read": ["search/cities", "search/explore", "search/places?name=x", "search/suggestions?type=city"],
    "duplicate.read": ["duplicates"],
    "map.read": ["map/markers"],
    "map.search": ["map/reverse-geocode?lat=1&lon=2"],
    "memory.read": ["memories"],
    "notification.read": ["notifications"],
    "partner.read": ["partners?direction=shared-by"],
    "person.read": ["search/person?name=x"],
    "sharedLink.read": ["shared-links"],
    "stack.read": ["stacks"],
    "tag.read": ["tags"],
}
WRITES = [
    ("POST", "albums", "albums"),
    ("PATCH", f"albums/{NOBODY}", "albums"),
    ("PUT", f"albums/{NOBODY}/assets", "albums"),
    ("POST", "people", "people"),
    ("PUT", "tags", "tags"),
    ("DELETE", "stacks", "stacks"),
    ("POST", "shared-links", "shared links"),
    ("POST", "memories", "memories"),
    ("POST", "search/smart", "Smart search"),
]


def test_lists_are_empty(client: httpx.Client) -> None:
    answers = {path: client.get(f"/api/{path}") for paths in LISTS.values() for path in paths}

    assert {path: (answer.status_code, answer.json()) for path, answer in answers.items()} == dict.fromkeys(
        answers, (200, [])
    )
    people = client.get("/api/people").json()
    assert people == {"people": [], "total": 0, "hidden": 0, "hasNextPage": False}
    assert client.get("/api/albums/statistics").json() == {"owned": 0, "shared": 0, "notShared": 0}


def test_each_list_has_its_permission(service: Service, account: Account) -> None:
    for permission, (path, *_) in LISTS.items():
        others = tuple(name for name in LISTS if name != permission)
        with service.client() as client:
            key = service.people.add_key(account.id, others)
            refused = client.get(f"/api/{path}", headers={"x-api-key": key})
        assert refused.status_code == 403
        assert refused.json()["message"] == f"Missing required permission: {permission}"


def test_what_has_an_id_is_not_there(client: httpx.Client) -> None:
    for path, name in {"albums": "Album", "people": "Person", "tags": "Tag", "shared-links": "Shared link"}.items():
        answer = client.get(f"/api/{path}/{NOBODY}")
        assert (answer.status_code, answer.json()["message"]) == (404, f"{name} not found")


def test_writing_is_refused_with_a_reason(client: httpx.Client, anonymous: httpx.Client) -> None:
    for method, path, named in WRITES:
        answer = client.request(method, f"/api/{path}", json={"albumName": "x"})

        assert answer.status_code == 400, path
        assert named in answer.json()["message"]
        assert anonymous.request(method, f"/api/{path}", json={}).status_code == 401, path
