"""Too many uploads, downloads or archives at once: refused with a status, a reason and `Retry-After`, nothing kept, and accepted again later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from tests.api.start_service import StartService
from tests.api.uploads.upload_clients import append_tus, begun_tus, create_tus, ietf_creation_fields
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.stacks import Engine
from tests.real.uploads import FORM_TAIL, FORM_TYPE, UploadConnection, form_head, fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

__all__ = ["stack"]

SMALL_BUFFER = 32 * 1024
LARGE = 8 * 1024 * 1024
"""More than the kernel buffers of a connection whose client reads nothing."""


@contextmanager
def uploading(service: Service, account: Account, data: bytes) -> Iterator[UploadConnection]:
    """An upload that the service has begun to receive. The block must send `data` and the end of the form."""
    form = form_head()
    length = len(form) + len(data) + len(FORM_TAIL)
    head = {"content-type": FORM_TYPE, "content-length": str(length), "expect": "100-continue", **account.headers}
    with UploadConnection(service.port) as wire:
        wire.send_head("POST", "/api/assets", head)
        assert wire.head()[0] == 100
        wire.send(form)
        yield wire


@contextmanager
def downloading(service: Service, target: str, headers: dict[str, str]) -> Iterator[UploadConnection]:
    """A download whose client reads the head, and then nothing."""
    with UploadConnection(service.port, receive_buffer=SMALL_BUFFER) as wire:
        wire.send_head("GET", target, headers)
        assert wire.head()[0] in (200, 206)
        yield wire


def assert_refused(response: httpx.Response, status: int, setting: str) -> None:
    problem: dict[str, Any] = response.json()
    assert response.status_code == status, response.text
    assert int(response.headers["retry-after"]) > 0
    assert setting in problem["message"]
    assert (problem["status"], problem["correlationId"]) == (status, response.headers["x-correlation-id"])


def test_uploads(start_service: StartService, stack: Engine) -> None:
    limits = {"MEDIAVAULT_UPLOADS_PER_USER": "2", "MEDIAVAULT_UPLOADS": "3"}
    service = start_service(stack, settings=limits)
    anna, bert = service.people.add(), service.people.add()
    data = [fresh_bytes(1000) for _ in range(3)]
    with service.client(anna) as annas, service.client(bert) as berts:
        location = begun_tus(annas, 3)
        with uploading(service, anna, data[0]) as first, uploading(service, anna, data[1]) as second:
            own = (429, "MEDIAVAULT_UPLOADS_PER_USER")
            assert_refused(upload(annas, fresh_bytes(2_000_000)), *own)
            assert_refused(create_tus(annas, 3, data=b"abc"), *own)
            assert_refused(append_tus(annas, location, 0, b"abc"), *own)
            assert_refused(
                annas.post("/api/upload", headers=ietf_creation_fields(b"abc", is_complete=True), content=b"abc"), *own
            )
            begun_tus(annas, 3)  # brings no bytes

            with uploading(service, bert, data[2]) as third:
                assert_refused(upload(berts, fresh_bytes(1000)), 503, "(MEDIAVAULT_UPLOADS)")
                for wire, sent in ((first, data[0]), (second, data[1]), (third, data[2])):
                    wire.send(sent + FORM_TAIL)
                    assert wire.answer().status == 201, "who was let in is not disturbed"
        uploaded(annas, fresh_bytes(1000))
        uploaded(berts, fresh_bytes(1000))
        with uploading(service, anna, data[0]), uploading(service, anna, data[0]):
            pass  # both clients leave
        eventually(lambda: upload(annas, fresh_bytes(1000)).status_code == 201, "what has ended counts no more")


def test_downloads_and_archives(start_service: StartService, stack: Engine) -> None:
    service = start_service(stack, settings={"MEDIAVAULT_DOWNLOADS_PER_USER": "2", "MEDIAVAULT_ARCHIVES_PER_USER": "2"})
    anna, bert = service.people.add(), service.people.add()
    data, small = fresh_bytes(LARGE), fresh_bytes(20_000)
    with ExitStack() as slow, service.client(anna) as annas, service.client(bert) as berts, service.client() as anyone:
        large, thumbnail = uploaded(annas, data), uploaded(annas, small)
        other = uploaded(berts, data)
        path = f"/api/assets/{large}/original"
        link = make_link(annas, [large])
        links_of_others = [make_link(annas, [large]), make_link(berts, [other])]
        for _ in range(2):
            slow.enter_context(downloading(service, path, anna.headers))
            slow.enter_context(downloading(service, link.path, {}))

        for headers in ({}, {"range": "bytes=1-999999"}, {"range": "bytes=0-9,100-200"}):
            assert_refused(annas.get(path, headers=headers), 429, "MEDIAVAULT_DOWNLOADS_PER_USER")
            assert_refused(anyone.get(link.path, headers=headers), 429, "MEDIAVAULT_ARCHIVES_PER_USER")
        for _ in range(3):
            assert annas.get(f"/api/assets/{thumbnail}/original").content == small, "what is small does not count"
            assert annas.get(path, headers={"range": "bytes=5-99"}).content == data[5:100]
        assert annas.head(path).status_code == anyone.head(link.path).status_code == 200
        assert annas.get(path, headers={"if-none-match": annas.head(path).headers["etag"]}).status_code == 304
        assert berts.get(f"/api/assets/{other}/original").content == data, "another user has the same number"
        for each in links_of_others:
            assert anyone.get(each.path).status_code == 200, "each link has the same number"
        assert annas.post("/api/download/archive", json={"assetIds": [large]}).status_code == 200
        slow.close()
        eventually(lambda: annas.get(path).content == data, "what has ended counts no more")
        eventually(lambda: anyone.get(link.path).status_code == 200, "what has ended counts no more")
