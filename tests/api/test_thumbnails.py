"""Thumbnails and playable videos over HTTP: permissions, file selection, file names, and replacement during downloads."""

from __future__ import annotations

import hashlib
import threading
from email.utils import parsedate_to_datetime
from uuid import UUID

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileKind
from app.storage.service import StorageService
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.derivatives import store_derivative
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

THUMBNAIL, PREVIEW, FULLSIZE, VIDEO = FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.FULLSIZE, FileKind.ENCODED_VIDEO


class ProcessedPhoto:
    """A photo with a thumbnail and a preview, all of random bytes."""

    def __init__(self, service: Service, client: httpx.Client, name: str = "Strand 1.heic") -> None:
        self.id = uploaded(client, fresh_bytes(5000), name)
        self.address = f"/api/assets/{self.id}/thumbnail"
        self.thumbnail, self.preview = fresh_bytes(3000), fresh_bytes(400_000)
        store_derivative(service, self.id, THUMBNAIL, self.thumbnail)
        store_derivative(service, self.id, PREVIEW, self.preview)


@pytest.fixture
def made(service: Service, client: httpx.Client) -> ProcessedPhoto:
    return ProcessedPhoto(service, client)


@pytest.mark.parametrize(
    ("query", "kind", "mime_type", "name"),
    [
        ("", "thumbnail", "image/webp", "Strand 1_thumbnail.webp"),
        ("?size=thumbnail", "thumbnail", "image/webp", "Strand 1_thumbnail.webp"),
        ("?size=preview", "preview", "image/jpeg", "Strand 1_preview.jpeg"),
    ],
)
def test_a_size_is_a_file_like_any_other(
    client: httpx.Client, made: ProcessedPhoto, query: str, kind: str, mime_type: str, name: str
) -> None:
    data: bytes = getattr(made, kind)
    address = f"{made.address}{query}"
    for whole in [client.get(address) for _ in range(2)]:  # the second answer comes from memory
        assert (whole.status_code, whole.content) == (200, data)
        assert whole.headers["content-type"] == mime_type
        assert whole.headers["etag"] == f'"{hashlib.sha1(data).hexdigest()}"'
        assert whole.headers["content-disposition"].startswith(f'inline; filename="{name}"')
        assert whole.headers["cache-control"] == "private, no-cache"
        assert parsedate_to_datetime(whole.headers["last-modified"])
    head = client.head(address)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
    part = client.get(address, headers={"Range": "bytes=-100"})
    assert (part.status_code, part.content) == (206, data[-100:])
    assert client.get(address, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert client.get(address, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    more = "&" if query else "?"
    assert client.get(f"{address}{more}download=true").headers["content-disposition"].startswith("attachment;")
    assert "immutable" in client.get(f"{address}{more}c=1QcSHQRnh493").headers["cache-control"]


def test_full_size_of_what_browsers_do_not_show(service: Service, client: httpx.Client, made: ProcessedPhoto) -> None:
    there = client.get(f"{made.address}?size=fullsize&c=x")
    assert there.status_code == 302
    assert there.headers["location"] == "thumbnail?size=preview&c=x"
    assert there.headers["cache-control"] == "no-store"
    assert client.get(f"{made.address}?size=fullsize&c=x", follow_redirects=True).content == made.preview

    data = fresh_bytes(9000)
    store_derivative(service, made.id, FULLSIZE, data)

    other = ProcessedPhoto(service, client)  # the answer for the first one may be remembered for five seconds
    store_derivative(service, other.id, FULLSIZE, data)
    found = client.get(f"{other.address}?size=fullsize")
    assert (found.status_code, found.content) == (200, data)
    assert 'filename="Strand 1_fullsize.jpeg"' in found.headers["content-disposition"]


def test_full_size_of_what_browsers_show_is_the_original(
    service: Service, client: httpx.Client, account: Account
) -> None:
    data = fresh_bytes(5000)
    address = f"/api/assets/{uploaded(client, data, 'photo.png')}/thumbnail?apiKey={account.key}&size=fullsize"
    with service.client() as keyless:
        for method in ("GET", "HEAD"):
            assert keyless.request(method, address).headers["location"] == f"original?apiKey={account.key}"
        found = keyless.get(address, follow_redirects=True)  # the credential goes along
    assert (found.status_code, found.content) == (200, data)


@pytest.mark.parametrize("size", ["original", "huge", ""])
def test_a_size_that_there_is_not_is_refused(client: httpx.Client, made: ProcessedPhoto, size: str) -> None:
    answer = client.get(f"{made.address}?size={size}")
    assert answer.status_code == 400
    if size == "original":
        assert answer.json()["message"] == "May not request original file"


def test_who_may_see_it(
    service: Service, other_client: httpx.Client, anonymous: httpx.Client, made: ProcessedPhoto
) -> None:
    account = service.people.add()
    with service.client(account) as client:
        mine = ProcessedPhoto(service, client)
        for address in (f"{mine.address}?size=preview", mine.address):
            assert client.get(address).status_code == 200
            assert other_client.get(address).status_code == 404
            assert other_client.get(address).json()["message"] == "Asset not found"
            assert anonymous.get(address).status_code == 401
    viewing = {"x-api-key": service.people.add_key(account.id, ("asset.view",))}
    downloading = {"x-api-key": service.people.add_key(account.id, ("asset.download",))}
    original = f"/api/assets/{mine.id}/original"
    assert anonymous.get(mine.address, headers=viewing).status_code == 200
    assert anonymous.get(original, headers=viewing).status_code == 403
    assert anonymous.get(original, headers=downloading).status_code == 200
    refused = anonymous.get(mine.address, headers=downloading)
    assert (refused.status_code, refused.json()["message"]) == (403, "Missing required permission: asset.view")


def test_others_are_not_told_what_is_being_made(client: httpx.Client, other_client: httpx.Client) -> None:
    asset_id = uploaded(client, fresh_bytes(1000), "photo.heic")
    for address in (f"/api/assets/{asset_id}/thumbnail", f"/api/assets/{asset_id}/video/playback"):
        assert client.get(address).json()["message"] == "Asset media not found"
        answer = other_client.get(address)
        assert (answer.status_code, answer.json()["message"]) == (404, "Asset not found")
        assert "retry-after" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused(client: httpx.Client, made: ProcessedPhoto, method: str) -> None:
    answer = client.request(method, made.address)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_playback_is_the_encoded_video_else_the_original(service: Service, client: httpx.Client) -> None:
    original, encoded = fresh_bytes(400_000), fresh_bytes(300_000)
    plain = uploaded(client, original, "Film.mp4")
    assert client.get(f"/api/assets/{plain}/video/playback").content == original
    other = uploaded(client, fresh_bytes(1000), "Film.avi")
    store_derivative(service, other, VIDEO, encoded)
    address = f"/api/assets/{other}/video/playback"
    found = client.get(address)
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, encoded, "video/mp4")
    assert 'inline; filename="Film.mp4"' in found.headers["content-disposition"]
    assert "media-src" in found.headers["content-security-policy"]
    parts = client.get(address, headers={"Range": "bytes=0-9,-10"})
    assert parts.status_code == 206
    assert encoded[:10] in parts.content
    assert encoded[-10:] in parts.content


def test_a_photo_is_not_played(client: httpx.Client, made: ProcessedPhoto) -> None:
    assert client.get(f"/api/assets/{made.id}/video/playback").status_code == 404


def test_a_swap_is_never_seen_as_a_gap(service: Service, client: httpx.Client, made: ProcessedPhoto) -> None:
    """The thumbnail is replaced repeatedly during requests: every response is one of the files, complete."""
    versions = [made.preview, *(fresh_bytes(400_000) for _ in range(6))]
    swapped = threading.Event()

    def swap() -> None:
        for version in versions[1:]:
            store_derivative(service, made.id, PREVIEW, version)
        swapped.set()

    worker = threading.Thread(target=swap)
    worker.start()
    fetched = 0
    try:
        while not swapped.is_set() or fetched < 20:
            answer = client.get(f"{made.address}?size=preview")
            assert answer.status_code == 200, answer.text
            assert answer.content in versions
            fetched += 1
    finally:
        worker.join(60)
    client.put(f"/api/assets/{made.id}", json={"isFavorite": True})  # what is remembered is forgotten
    assert client.get(f"{made.address}?size=preview").content == versions[-1]


def test_what_is_remembered_of_a_file_that_is_gone_is_read_again(
    service: Service, client: httpx.Client, made: ProcessedPhoto
) -> None:
    assert client.get(made.address).content == made.thumbnail
    old = service.people.call(lambda catalog: _path_of(catalog, made.id))
    data = fresh_bytes(2000)
    store_derivative(service, made.id, THUMBNAIL, data)

    async def unlink(_: Catalog, storage: StorageService) -> None:
        await storage.unlink(old)

    service.people.call_with_storage(unlink)

    answer = client.get(made.address)
    assert (answer.status_code, answer.content) == (200, data)


async def _path_of(catalog: Catalog, asset_id: str) -> str:
    return (await catalog.derivatives.get_for_asset(UUID(asset_id)))[THUMBNAIL].file.path


def test_deleting_an_asset_takes_what_was_made_of_it_along(
    service: Service, client: httpx.Client, made: ProcessedPhoto
) -> None:
    kept = ProcessedPhoto(service, client)
    addresses = (made.address, f"{made.address}?size=preview")
    for address in addresses:
        assert client.get(address).status_code == 200

    assert client.request("DELETE", "/api/assets", json={"ids": [made.id], "force": True}).status_code == 204

    for address in addresses:
        assert client.get(address).status_code == 404
    assert client.get(kept.address).status_code == 200
    eventually(lambda: not [path for path in service.stack.objects() if made.id in path], "its files are swept")


def test_direct_links_lead_to_derivatives_too(start_service: StartService) -> None:
    service = start_service("s3", settings={"S3_DELIVERY": "redirect"})
    with service.client(service.people.add()) as client, httpx.Client(trust_env=False, timeout=30) as outside:
        made = ProcessedPhoto(service, client)
        answer = client.get(made.address)
        assert answer.status_code == 302
        link = record_secret(answer.headers["location"])
        found = outside.get(link)
        assert (found.content, found.headers["content-type"]) == (made.thumbnail, "image/webp")
        assert "Strand 1_thumbnail.webp" in found.headers["content-disposition"]

        store_derivative(service, made.id, THUMBNAIL, fresh_bytes(1000))

        assert outside.get(link).content == made.thumbnail, "a link goes on working after a swap"
