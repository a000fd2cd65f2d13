"""Fixtures of whole journeys: services that make thumbnails, at their first start."""

from __future__ import annotations

import re
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.api.consistency import assert_consistent
from tests.real.accounts import Account
from tests.real.chosen import EITHER
from tests.real.firefox_adapter import PROGRAM
from tests.real.sample_media import make_jpeg, make_video
from tests.real.secrets import record_secret
from tests.real.service import ROOT, WORKING, Service
from tests.real.stacks import ENGINES, Engine, Stacks
from tests.real.waiting import eventually
from tests.real.web_page import PATIENCE_MS, WebPage, open_web_page


@dataclass(frozen=True, slots=True)
class FirstRun:
    """A service that has started for the first time; `address` signs its only user in, once."""

    service: Service
    address: str
    key: str


@pytest.fixture(params=EITHER)
def engine(request: pytest.FixtureRequest, run_seed: int) -> Engine:
    """One of both, which the seed chooses; in the long campaigns each."""
    return ENGINES[(run_seed + request.param) % 2]


@pytest.fixture
def first_run(engine: Engine, stacks: Stacks, tmp_path: Path) -> Iterator[FirstRun]:
    """A new installation, as `make run` starts it."""
    stack = stacks.create(engine, tmp_path / "service", tables=False)
    with Service(stack, program=(*WORKING, "--first-run")) as service:
        eventually(lambda: "Stop:" in service.output, "the introduction is printed")
        found = re.search(
            rf"^({re.escape(service.url)}/#signin=(\w+))\n.*^API key: (\w+)$", service.output, re.M | re.S
        )
        assert found, service.output
        record_secret(found[2])
        yield FirstRun(service, found[1], record_secret(found[3]))
        assert_consistent(stack)


@pytest.fixture
async def firefox(tmp_path: Path) -> AsyncIterator[Browser]:
    """Debian's Firefox, through `tests.real.firefox_adapter`."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    adapter = tmp_path / "firefox"
    adapter.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m tests.real.firefox_adapter "$@"\n')
    adapter.chmod(0o755)
    async with async_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = await playwright.firefox.launch(channel="moz-firefox", executable_path=adapter)
        yield browser
        await browser.close()


@dataclass(frozen=True, slots=True)
class FilledLibrary:
    """A service with an administrator's photos, a video and something in the trash, all of them with thumbnails."""

    service: Service
    account: Account
    photo_id: str
    video_id: str


@pytest.fixture(scope="session")
def library(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledLibrary]:
    """For tests that only look."""
    folder = tmp_path_factory.mktemp("library")
    stack = stacks.create("local", folder / "service", tables=False)
    with Service(stack, program=WORKING) as service:
        account = service.people.add(is_admin=True, password=secrets.token_hex(8))
        with service.client(account) as client:
            photos = [_upload(client, f"Foto {number}.jpg", make_jpeg(320, 240)) for number in range(5)]
            video = _upload(client, "Film.mp4", make_video(folder, playable=True))
            client.request("DELETE", "/api/assets", json={"ids": photos[:1]})
            for asset_id in (*photos, video):
                address = f"/api/assets/{asset_id}/thumbnail"
                eventually(partial(_is_found, client, address), "the thumbnail is made", within=60)
        yield FilledLibrary(service, account, photos[-1], video)


@pytest.fixture
async def library_page(chromium: Browser, library: FilledLibrary) -> AsyncIterator[WebPage]:
    """A tab in which the administrator of `library` is signed in."""
    async with open_web_page(chromium, library.service.url, library.account) as page:
        yield page


def _upload(client: httpx.Client, name: str, content: bytes) -> str:
    moment = "2024-06-01T12:00:00Z"
    times = {"fileCreatedAt": moment, "fileModifiedAt": moment}
    answer = client.post("/api/assets", data=times, files={"assetData": (name, content)})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def _is_found(client: httpx.Client, address: str) -> bool:
    return client.get(address).status_code == 200
