"""Starts Debian's Firefox for Playwright, as its executable: `python -m tests.real.firefox_adapter ARGUMENTS…`.

Playwright drives an unmodified Firefox by WebDriver BiDi. It sets the media features (colour scheme, motion) of every profile by a command that
Firefox ESR 153 does not have. This program passes on all messages between the two, and answers that command itself: Firefox keeps the
system's values.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from contextlib import suppress

import aiohttp
from aiohttp import web

PROGRAM = "firefox-esr"
MISSING_COMMANDS = frozenset({"emulation.setMediaFeaturesOverride"})
_ANNOUNCEMENT = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


async def main(arguments: list[str]) -> int:
    program = shutil.which(PROGRAM)
    if program is None:
        raise SystemExit(f"{PROGRAM} is not installed")
    firefox = await asyncio.create_subprocess_exec(program, *arguments, stderr=asyncio.subprocess.PIPE, limit=1 << 20)
    assert firefox.stderr is not None
    while line := (await firefox.stderr.readline()).decode(errors="replace"):
        if found := _ANNOUNCEMENT.search(line):
            async with aiohttp.ClientSession() as client:
                runner = await _listen(client, found[1])
                await asyncio.gather(_discard(firefox.stderr), firefox.wait())
                await runner.cleanup()
    return await firefox.wait()


async def _listen(client: aiohttp.ClientSession, firefox: str) -> web.AppRunner:
    """Listen in Firefox's place, and announce it as Firefox does."""

    async def connect(request: web.Request) -> web.WebSocketResponse:
        driver = web.WebSocketResponse(max_msg_size=0)
        await driver.prepare(request)
        async with client.ws_connect(firefox + request.path, max_msg_size=0) as browser:
            passing = asyncio.create_task(_pass_answers(browser, driver))
            async for message in driver:
                command = json.loads(message.data)
                if command["method"] in MISSING_COMMANDS:
                    await driver.send_json({"type": "success", "id": command["id"], "result": {}})
                else:
                    await browser.send_str(message.data)
            passing.cancel()
        return driver

    application = web.Application()
    application.router.add_get("/{path:.*}", connect)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"WebDriver BiDi listening on ws://{host}:{port}", file=sys.stderr, flush=True)
    return runner


async def _pass_answers(browser: aiohttp.ClientWebSocketResponse, driver: web.WebSocketResponse) -> None:
    with suppress(ConnectionError):
        async for message in browser:
            await driver.send_str(message.data)
    await driver.close()


async def _discard(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
