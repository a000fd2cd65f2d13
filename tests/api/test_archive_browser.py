"""A real browser resumes an interrupted archive download by itself, and the file is correct."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.archives import download, make_link, sha256_of
from tests.real.browser import Browser
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded

MEBIBYTE = 1024 * 1024
PAGE = b"<!doctype html><title>Photos</title><a href='%s'>all of them</a>"


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with Proxy(service.port) as proxy:
        yield proxy


async def test_chromium_resumes_a_download_that_is_cut_twice(
    service: Service, client: httpx.Client, proxy: Proxy, tmp_path: Path
) -> None:
    link = make_link(client, [uploaded(client, fresh_bytes(4 * MEBIBYTE)) for _ in range(4)], archiveName="Ferien 2024")
    sha256 = download(client, link, tmp_path / "plain.zip")
    page = tmp_path / "page.html"
    page.write_bytes(PAGE % (proxy.endpoint + link.path).encode())
    folder = tmp_path / "downloads"
    folder.mkdir()
    proxy.faults += [
        Fault(matches=_is_of_the_archive, cut_after=5 * MEBIBYTE, times=1),
        Fault(matches=_is_of_the_archive, cut_after=5 * MEBIBYTE, times=1),
    ]

    async with Browser() as browser:
        saved = await browser.download(page.as_uri(), folder)

    assert saved.name == "Ferien 2024.zip"
    assert await asyncio.to_thread(sha256_of, saved) == sha256
    whole, *resumed = [request for request in proxy.requests if _is_of_the_archive(request)]
    assert "range" not in whole.headers
    assert len(resumed) == 2
    for request in resumed:
        assert request.headers["if-range"] == link.etag
        assert request.headers["range"].startswith("bytes=")
        assert 0 < int(request.headers["range"].removeprefix("bytes=").rstrip("-")) < link.size


def _is_of_the_archive(request: Recorded) -> bool:
    return request.method == "GET" and "/download/archives/" in request.path
