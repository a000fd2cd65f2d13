"""Uploads whose session ends: they wait for the sign-in of the same user, and never become another user's."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Dialog, Page, expect

from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.sample_media import make_video
from tests.real.service import Service
from tests.real.uploads import fresh_bytes
from tests.real.web_page import WebPage

MEBIBYTE = 1024 * 1024


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "Film.mp4"
    path.write_bytes(make_video(tmp_path, playable=True) + fresh_bytes(20 * MEBIBYTE))
    return path


async def test_an_upload_goes_on_after_the_same_user_signs_in_again(
    web_page: WebPage, client: httpx.Client, account: Account, film: Path
) -> None:
    await _begin(web_page, film)
    _end_sessions(web_page, client)

    await expect(web_page.page.locator(".upload-status")).to_have_text("Sign in again to go on.")
    await web_page.set_network()
    await _sign_in(web_page.page, account)

    await web_page.expect_uploads("1 uploaded")
    assert [asset["originalFileName"] for asset in client.get("/api/assets").json()["items"]] == ["Film.mp4"]


async def test_an_upload_ends_when_another_user_signs_in(
    web_page: WebPage, client: httpx.Client, service: Service, film: Path
) -> None:
    other = service.people.add(password=secrets.token_hex(8))
    await _begin(web_page, film)
    _end_sessions(web_page, client)

    await expect(web_page.page.locator(".upload-status")).to_have_text("Sign in again to go on.")
    await web_page.set_network()
    await _sign_in(web_page.page, other)

    await expect(web_page.page.locator(".upload-panel")).to_be_hidden()
    with service.client(other) as others_client:
        assert others_client.get("/api/assets").json()["items"] == client.get("/api/assets").json()["items"] == []


async def test_an_upload_waits_when_another_user_signs_in_in_another_tab(
    web_page: WebPage, client: httpx.Client, service: Service, account: Account, film: Path
) -> None:
    other = service.people.add(password=secrets.token_hex(8))
    await _begin(web_page, film)
    pause = web_page.page.get_by_role("button", name="Pause all")
    await pause.click()  # no request tells this tab of the other session
    other_tab = await web_page.context.new_page()
    await other_tab.goto(f"{web_page.base}/")
    await other_tab.get_by_role("button", name="Account").click()
    await other_tab.get_by_role("button", name="Sign out").click()
    await _sign_in(other_tab, other)

    await expect(web_page.page.get_by_text("Your session has ended.")).to_be_visible()
    await expect(web_page.page.locator(".tile")).to_have_count(0)
    await web_page.set_network()
    await _sign_in(web_page.page, account)
    await expect(other_tab.get_by_text("Your session has ended.")).to_be_visible()
    await expect(web_page.page.get_by_role("heading", name="Paused at 0 of 1")).to_be_visible()
    await web_page.page.get_by_role("button", name="Resume all").click()

    await web_page.expect_uploads("1 uploaded")
    with service.client(other) as others_client:
        assert others_client.get("/api/assets").json()["items"] == []
    assert len(client.get("/api/assets").json()["items"]) == 1


async def test_closing_the_page_asks_only_while_files_are_sent(web_page: WebPage, film: Path) -> None:
    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    await _begin(web_page, film)
    await web_page.page.locator("h1").first.click(force=True)  # browsers ask only on pages that were used
    web_page.page.on("dialog", stay)
    await web_page.page.close(run_before_unload=True)
    await web_page.set_network()
    await web_page.expect_uploads("1 uploaded")

    assert asked == ["beforeunload"]
    async with web_page.page.expect_event("close"):
        await web_page.page.close(run_before_unload=True)
    assert asked == ["beforeunload"]


async def test_a_pasted_picture_is_uploaded(web_page: WebPage, client: httpx.Client) -> None:
    await web_page.open()

    await web_page.page.evaluate(
        """(bytes) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "image.jpg", { type: "image/jpeg" }));
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        list(photo()),
    )

    await web_page.expect_uploads("1 uploaded")
    assert [asset["originalFileName"] for asset in client.get("/api/assets").json()["items"]] == ["image.jpg"]


async def _begin(web_page: WebPage, film: Path) -> None:
    await web_page.open()
    await web_page.set_network(bytes_per_second=4 * MEBIBYTE)
    await web_page.drop(film)
    await web_page.wait_until_sent(film.name, 0.1)


def _end_sessions(web_page: WebPage, client: httpx.Client) -> None:
    web_page.allowed.append(re.compile("status of 401"))
    assert client.delete("/api/sessions").status_code == 204


async def _sign_in(page: Page, account: Account) -> None:
    await page.wait_for_url("**/sign-in")
    await page.locator("input[type='email']").fill(account.email)
    await page.locator("input[type='password']").first.fill(account.password or "")
    await page.keyboard.press("Enter")
    await page.locator(".header:not([hidden])").wait_for()
