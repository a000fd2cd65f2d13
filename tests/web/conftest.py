"""Fixtures of the page's tests: Chromium, services, and a tab in which a user is signed in."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.api.consistency import assert_consistent
from tests.real.accounts import Account
from tests.real.albums import Album, create_album
from tests.real.archive_programs import program
from tests.real.service import WORKING, Service
from tests.real.stacks import Stacks
from tests.real.web_page import FLAGS, PATIENCE_MS, WebPage, open_web_page


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One Chromium for the whole session; each test has a profile of its own in it."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def service(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The session's service, on a folder and SQLite; it makes no thumbnails. A test that stops it uses `own_service`."""
    with Service(stacks.create("local", tmp_path_factory.mktemp("service"), tables=False)) as running:
        yield running


@pytest.fixture
def own_service(stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    """A service for one test, which may kill it; it must run again at the end."""
    with Service(stacks.create("local", tmp_path / "service")) as running:
        yield running
        assert_consistent(running.stack)


@pytest.fixture(autouse=True)
def check_consistency(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, assert that catalogue and storage of its service are consistent."""
    service: Service | None = request.getfixturevalue("service") if "service" in request.fixturenames else None
    yield
    if service is not None:
        assert_consistent(service.stack)


@pytest.fixture
def account(service: Service) -> Account:
    """A new user of the session's service, with a password and a key of all permissions."""
    return service.people.add(password=secrets.token_hex(8))


@pytest.fixture
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    """A blocking client with the key of `account`."""
    with service.client(account) as client:
        yield client


@pytest.fixture
async def web_page(chromium: Browser, service: Service, account: Account) -> AsyncIterator[WebPage]:
    """A tab in which `account` is signed in; fails if something happens there that must not."""
    async with open_web_page(chromium, service.url, account) as page:
        yield page


@pytest.fixture(scope="session")
def album(stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Album]:
    """Photos and videos of every kind, of a service that makes thumbnails. A test leaves them as it found them."""
    folder = tmp_path_factory.mktemp("album")
    with Service(stacks.create("local", folder / "service", tables=False), program=WORKING) as running:
        yield create_album(running, folder)
        assert_consistent(running.stack)


@pytest.fixture
async def album_page(chromium: Browser, album: Album) -> AsyncIterator[WebPage]:
    """A tab in which the owner of `album` is signed in."""
    async with open_web_page(chromium, album.service.url, album.account) as page:
        yield page
