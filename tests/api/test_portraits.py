"""Person thumbnails and profile images: set, fetched, replaced, and removed with their source."""

from __future__ import annotations

import io
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from tests.media.photo_files import BLUE, GREEN, GREY, RED, Colour, encode_image, encode_jpeg, make_quarters
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

BOXES = {(0, 0): RED, (320, 0): GREEN, (0, 240): BLUE, (320, 240): GREY}


def put(
    client: httpx.Client, person: str, asset_id: str, x: float = 0, y: float = 0, **changes: float
) -> httpx.Response:
    box = {"x": x + 60, "y": y + 40, "width": 160, "height": 160, "imageWidth": 640, "imageHeight": 480}
    return client.put(f"/api/people/{person}/thumbnail", json={"assetId": asset_id, **box, **changes})


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert image.format == "JPEG"
    return image.convert("RGB")


def middle(image: Image.Image) -> Colour:
    colour = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(colour, tuple)
    return colour[0], colour[1], colour[2]


def near(found: Colour, wanted: Colour) -> bool:
    return all(abs(a - b) <= 3 for a, b in zip(found, wanted, strict=True))


@pytest.fixture
def asset_id(client: httpx.Client) -> str:
    return uploaded(client, encode_jpeg(make_quarters()) + fresh_bytes(8), "group.jpg")


def test_a_person_is_cut_out_of_a_photo(client: httpx.Client, asset_id: str) -> None:
    for (x, y), colour in BOXES.items():
        person = str(uuid4())
        assert client.get(f"/api/people/{person}/thumbnail").status_code == 404
        assert put(client, person, asset_id, x, y).status_code == 204
        image = picture(client.get(f"/api/people/{person}/thumbnail"))
        assert image.size == (250, 250)
        assert near(middle(image), colour)


def test_another_picture_takes_the_place_of_the_first_at_once(client: httpx.Client, asset_id: str) -> None:
    person = str(uuid4())
    address = f"/api/people/{person}/thumbnail"
    assert put(client, person, asset_id).status_code == 204
    first = client.get(address)
    assert client.get(address, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert put(client, person, asset_id, 320, 0).status_code == 204
    second = client.get(address)
    assert second.headers["etag"] != first.headers["etag"]
    assert near(middle(picture(second)), GREEN)
    assert client.head(address).headers["content-length"] == str(len(second.content))
    part = client.get(address, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, second.content[:10])


def test_a_person_goes_with_the_photo(client: httpx.Client, asset_id: str) -> None:
    person = str(uuid4())
    assert put(client, person, asset_id).status_code == 204
    assert client.request("DELETE", "/api/assets", json={"ids": [asset_id], "force": True}).status_code == 204
    address = f"/api/people/{person}/thumbnail"
    eventually(lambda: client.get(address).status_code == 404, "what is remembered of it is forgotten")
    assert put(client, person, asset_id).status_code == 404


def test_persons_and_photos_of_others(
    client: httpx.Client, other_client: httpx.Client, anonymous: httpx.Client, asset_id: str
) -> None:
    person = str(uuid4())
    assert put(client, person, asset_id).status_code == 204
    for stranger, status in ((other_client, 404), (anonymous, 401)):
        assert stranger.get(f"/api/people/{person}/thumbnail").status_code == status
        assert put(stranger, person, asset_id).status_code == status
    theirs = uploaded(other_client, encode_jpeg(make_quarters(300, 300)), "theirs.jpg")
    assert put(client, person, theirs).status_code == 404
    assert put(other_client, person, theirs).status_code == 404
    assert near(middle(picture(client.get(f"/api/people/{person}/thumbnail"))), RED)


@pytest.mark.parametrize(
    "changes",
    [{"width": 0}, {"height": -5}, {"x": -100}, {"imageWidth": 0}, {"x": float(10**9)}, {"assetId": "no id"}],
    ids=str,
)
def test_a_box_that_is_none(client: httpx.Client, asset_id: str, changes: dict[str, float]) -> None:
    answer = put(client, str(uuid4()), asset_id, **changes)
    assert answer.status_code == 400, answer.text


def test_a_photo_that_is_none(client: httpx.Client) -> None:
    broken = uploaded(client, fresh_bytes(5000), "broken.jpg")
    person = str(uuid4())
    answer = put(client, person, broken)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert client.get(f"/api/people/{person}/thumbnail").status_code == 404
    film = uploaded(client, fresh_bytes(5000), "film.mp4")
    assert put(client, person, film).status_code == 409, "its preview is not made"


def send(client: httpx.Client, data: bytes, name: str = "me.png", part: str = "file") -> httpx.Response:
    return client.post("/api/users/profile-image", files={part: (name, data, "application/octet-stream")})


def test_a_profile_image(client: httpx.Client, account: Account, other_client: httpx.Client, service: Service) -> None:
    address = f"/api/users/{account.id}/profile-image"
    assert client.get(address).status_code == 404
    assert client.get("/api/users/me").json()["profileImagePath"] == ""

    answer = send(client, encode_image(make_quarters(900, 300), "PNG"))

    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["userId"] == str(account.id)
    me = client.get("/api/users/me").json()
    assert (me["profileImagePath"], me["profileChangedAt"]) == (told["profileImagePath"], told["profileChangedAt"])
    assert told["profileImagePath"] in service.stack.objects()
    image = picture(client.get(address))
    assert image.width == image.height
    assert other_client.get(address).status_code == 404
    with service.client(service.people.add(is_admin=True)) as admin:
        assert admin.get(address).status_code == 200

    assert send(client, encode_jpeg(Image.new("RGB", (300, 300), GREEN)), "me.jpg").status_code == 201
    assert near(middle(picture(client.get(address))), GREEN)

    assert client.delete("/api/users/profile-image").status_code == 204
    assert client.delete("/api/users/profile-image").status_code == 204
    assert client.get(address).status_code == 404
    assert client.get("/api/users/me").json()["profileImagePath"] == ""


@pytest.mark.parametrize(
    ("data", "name", "part", "said"),
    [
        (b"no picture at all", "me.jpg", "file", ""),
        (b"text", "me.txt", "file", "Unsupported file type .txt"),
        (b"film", "me.mp4", "file", "Unsupported file type .mp4"),
        (b"photo", "me.jpg", "avatar", "file is required"),
        (b"", "me.jpg", "file", ""),
    ],
)
def test_a_profile_image_that_is_none(
    client: httpx.Client, account: Account, data: bytes, name: str, part: str, said: str
) -> None:
    assert send(client, encode_jpeg(make_quarters(300, 300)), "me.jpg").status_code == 201
    before = client.get(f"/api/users/{account.id}/profile-image").content

    answer = send(client, data, name, part)

    assert answer.status_code == 400, answer.text
    assert answer.json()["message"].startswith(said)
    assert client.get(f"/api/users/{account.id}/profile-image").content == before


def test_who_may_set_them(service: Service, anonymous: httpx.Client, account: Account, client: httpx.Client) -> None:
    assert send(anonymous, encode_jpeg(make_quarters(100, 100)), "me.jpg").status_code == 401
    assert client.post("/api/users/profile-image", content=b"{}").status_code == 400
    reading = {"x-api-key": service.people.add_key(account.id, ("asset.read",))}
    refused = anonymous.delete("/api/users/profile-image", headers=reading)
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Missing required permission: userProfileImage.delete",
    )
