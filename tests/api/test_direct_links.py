"""Direct links (`S3_DELIVERY=redirect`): which requests are redirected to a presigned URL, and which the service answers itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.stacks import Stacks
from tests.real.uploads import fresh_bytes, uploaded

NAME = "Müllers „Foto“ 1.jpg"


class RedirectedPhoto:
    """A photo on a service that redirects, with clients with and without an API key."""

    def __init__(self, service: Service, client: httpx.Client, outside: httpx.Client) -> None:
        self.service = service
        self.client = client
        self.outside = outside
        self.data = fresh_bytes(300_000)
        self.path = f"/api/assets/{uploaded(client, self.data, NAME)}/original"
        self.etag = client.head(self.path).headers["etag"]

    def link(self, path: str | None = None, **headers: str) -> httpx.Response:
        answer = self.client.get(path or self.path, headers=headers)
        assert answer.status_code == 302, answer.text
        record_secret(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Signature"][0])
        return answer


@pytest.fixture(scope="module")
def redirecting(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"S3_DELIVERY": "redirect", "MEDIAVAULT_S3_LINK_SECONDS": "600"}
    with Service(stacks.create("s3", tmp_path_factory.mktemp("redirecting")), settings=settings) as running:
        yield running
        assert_consistent(running.stack)


@pytest.fixture
def sent(redirecting: Service) -> Iterator[RedirectedPhoto]:
    with ExitStack() as stack:
        client = stack.enter_context(redirecting.client(redirecting.people.add()))
        yield RedirectedPhoto(redirecting, client, stack.enter_context(httpx.Client(trust_env=False, timeout=30)))


def test_a_get_is_sent_to_a_link_that_needs_no_key(sent: RedirectedPhoto) -> None:
    answer = sent.link()

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.content == b""
    found = sent.outside.get(answer.headers["location"])
    assert found.content == sent.data
    assert found.headers["content-type"] == "image/jpeg"
    assert found.headers["content-disposition"].startswith("inline;")
    assert "filename*=UTF-8''M%C3%BCllers" in found.headers["content-disposition"]


def test_a_link_ends_when_it_says(sent: RedirectedPhoto) -> None:
    query = parse_qs(urlsplit(sent.link().headers["location"]).query)
    assert query["X-Amz-Expires"] == ["600"]


def test_a_link_opens_its_object_only(sent: RedirectedPhoto) -> None:
    other = sent.client.get(f"/api/assets/{uploaded(sent.client, fresh_bytes(10))}/original").headers["location"]
    link = sent.link().headers["location"]
    moved = link.replace(urlsplit(link).path, urlsplit(other).path)
    assert sent.outside.get(moved).status_code == 403


def test_an_attachment_is_one_at_the_store_too(sent: RedirectedPhoto) -> None:
    found = sent.outside.get(sent.link(f"{sent.path}?download=true").headers["location"])
    assert found.headers["content-disposition"].startswith("attachment;")


def test_what_can_run_script_is_an_attachment_at_the_store(sent: RedirectedPhoto) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    path = f"/api/assets/{uploaded(sent.client, drawing, 'drawing.svg')}/original"
    found = sent.outside.get(sent.link(path).headers["location"])
    assert found.headers["content-disposition"].startswith("attachment;")


def test_a_range_is_served_by_the_store(sent: RedirectedPhoto) -> None:
    link = sent.link(Range="bytes=5-9").headers["location"]
    found = sent.outside.get(link, headers={"Range": "bytes=5-9"})
    assert (found.status_code, found.content) == (206, sent.data[5:10])


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If-None-Match": "{etag}"}, 304),
        ({"If-None-Match": '"another"'}, 200),
        ({"If-Match": '"another"'}, 412),
        ({"If-Match": "{etag}"}, 200),
        ({"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}, 304),
        ({"If-Range": "{etag}", "Range": "bytes=0-4"}, 206),
        ({"If-Range": '"another"', "Range": "bytes=0-4"}, 200),
    ],
    ids=str,
)
def test_conditions_are_answered_here(sent: RedirectedPhoto, conditions: dict[str, str], status: int) -> None:
    answer = sent.client.get(
        sent.path, headers={name: text.format(etag=sent.etag) for name, text in conditions.items()}
    )

    assert answer.status_code == status
    if status in (200, 206):
        assert answer.content == (sent.data if status == 200 else sent.data[:5])


def test_a_head_is_answered_here(sent: RedirectedPhoto) -> None:
    answer = sent.client.head(sent.path)
    assert (answer.status_code, answer.headers["content-length"]) == (200, "300000")


def test_who_may_not_see_it_gets_no_link(sent: RedirectedPhoto) -> None:
    assert sent.outside.get(f"{sent.service.url}{sent.path}").status_code == 401
    with sent.service.client(sent.service.people.add()) as stranger:
        assert stranger.get(sent.path).status_code == 404


def test_what_lies_on_the_disk_is_sent_from_here(start_service: StartService) -> None:
    service = start_service("local", settings={"S3_DELIVERY": "redirect"})
    with service.client(service.people.add()) as client:
        data = fresh_bytes(1000)
        assert client.get(f"/api/assets/{uploaded(client, data)}/original").content == data
