"""Ways in other than the printed address: password and API key; and what happens when the session ends."""

from __future__ import annotations

import httpx
from playwright.async_api import Browser, Page, Route, expect

from tests.real.accounts import Account
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.web_page import WebPage, open_web_page


async def test_a_password_opens_the_address_that_was_asked_for(
    chromium: Browser, service: Service, account: Account
) -> None:
    async with open_web_page(chromium, service.url, None) as web_page:
        page = web_page.page
        web_page.allow_status(401)
        await page.goto(f"{service.url}/trash")
        assert account.password
        await _fill_in(page, account.email, "not this one")
        await expect(page.get_by_role("alert")).to_have_text("That e-mail and password do not match.")

        await _fill_in(page, account.email, account.password)

        await expect(page.get_by_text("The trash is empty")).to_be_visible()
        assert page.url == f"{service.url}/trash"


async def test_a_key_signs_in_and_the_browser_does_not_keep_it(
    chromium: Browser, service: Service, client: httpx.Client, account: Account
) -> None:
    async with open_web_page(chromium, service.url, None) as web_page:
        page = web_page.page
        await page.goto(service.url)
        await page.get_by_role("button", name="Sign in with an API key").click()
        await page.get_by_label("API key").fill(account.key)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_text("Room for your photos")).to_be_visible()

        kept = await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie + location")
        cookies = await web_page.context.cookies()
        assert account.key not in kept + "".join(cookie.get("value", "") for cookie in cookies)
        token = next(cookie for cookie in cookies if cookie.get("name") == "immich_access_token")
        assert (token.get("httpOnly"), token.get("sameSite")) == (True, "Lax")

        key_id = client.get("/api/api-keys/me").json()["id"]
        client.delete(f"/api/api-keys/{key_id}")
        web_page.allow_status(401)
        await page.get_by_role("link", name="Trash").click()
        await expect(page.get_by_text("Your session has ended.")).to_be_visible()


async def test_after_an_expired_session_it_goes_on_at_the_same_place(
    web_page: WebPage, client: httpx.Client, account: Account
) -> None:
    page = web_page.page
    await web_page.open("/")
    web_page.allow_status(401)
    (session,) = client.get("/api/sessions").json()
    client.delete(f"/api/sessions/{session['id']}")
    await page.get_by_role("link", name="Trash").click()
    await expect(page.get_by_text("Your session has ended.")).to_be_visible()

    assert account.password
    await _fill_in(page, account.email, account.password)

    await expect(page.get_by_text("The trash is empty")).to_be_visible()
    assert page.url == f"{web_page.base}/trash"


async def test_the_session_of_a_key_that_may_not_read_its_user_survives_a_reload(
    chromium: Browser, service: Service, client: httpx.Client
) -> None:
    permissions = ["asset.read", "asset.view"]
    key = client.post("/api/api-keys", json={"name": "only looks", "permissions": permissions}).json()["secret"]
    async with open_web_page(chromium, service.url, None) as web_page:
        web_page.allow_status(403)
        signed_in = await web_page.context.request.post("/api/auth/sign-in-key", data={"apiKey": record_secret(key)})
        assert signed_in.status == 201

        await web_page.open("/trash")

        await expect(web_page.page.get_by_text("The trash is empty")).to_be_visible()


async def test_a_service_that_cannot_tell_who_is_signed_in_is_asked_again(web_page: WebPage) -> None:
    answers = [503, 500]

    async def fail(route: Route) -> None:
        if answers:
            await route.fulfill(status=answers.pop(), body="{}")
        else:
            await route.continue_()

    web_page.allow_status(500)
    web_page.allow_status(503)
    await web_page.page.route("**/api/users/me", fail)

    await web_page.open("/trash")

    await expect(web_page.page.get_by_text("The trash is empty")).to_be_visible()
    assert not answers


async def test_an_old_address_in_a_tab_that_is_signed_in_says_so_once(web_page: WebPage) -> None:
    page = web_page.page
    web_page.allow_status(401)
    await web_page.open("/")

    await page.evaluate("location.assign('/#signin=0123456789abcdef')")  # as if pasted: the document stays

    await expect(page.get_by_text("That address has been used already")).to_be_visible()
    await expect(page.get_by_text("Room for your photos")).to_be_visible()
    assert page.url == f"{web_page.base}/"
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_role("alert")).to_be_hidden()


async def _fill_in(page: Page, email: str, password: str) -> None:
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()
