"""A real headless Chromium, driven over its DevTools protocol, that downloads files and runs scripts of pages."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.real.archive_programs import program

PATIENCE = 60.0
UNSEEN_FEATURES = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup")
"""The suggestions below Chromium's address bar are two pages, which it loads with each new window, also headless: 0.6 s of CPU, twice as much as
the window."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    f"--disable-features={','.join(UNSEEN_FEATURES)}",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)


class DownloadFailed(Exception):
    """The browser aborted the download."""


class Browser:
    """`async with Browser() as browser:` starts and stops it. Its profile is temporary. Every wait ends after a minute."""

    def __init__(self) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._events: deque[dict[str, Any]] = deque()
        self._sent = 0

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def download(self, page: str, folder: Path) -> Path:
        """Open `page`, and click its only link; returns the file when it is complete. Raises `DownloadFailed`."""
        async with asyncio.timeout(PATIENCE):
            request = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True}
            await self._call("Browser.setDownloadBehavior", request)
            target = (await self._call("Target.createTarget", {"url": page}))["targetId"]
            session = (await self._call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
            click = "document.readyState == 'complete' && document.links.length && (document.links[0].click(), true)"
            while True:
                answer = await self._call("Runtime.evaluate", {"expression": click}, session)
                if answer["result"].get("value") is True:
                    break
                await asyncio.sleep(0.02)
            name = ""
            while True:
                event = await self._next_event()
                params = event.get("params", {})
                if event["method"] == "Browser.downloadWillBegin":
                    name = params["suggestedFilename"]
                elif event["method"] == "Browser.downloadProgress" and params["state"] == "completed":
                    return folder / name
                elif event["method"] == "Browser.downloadProgress" and params["state"] == "canceled":
                    raise DownloadFailed(f"after {params['receivedBytes']} of {params['totalBytes']} bytes")

    async def run(self, page: str, script: str) -> Any:
        """Open `page`, and run `script` there, the body of an asynchronous function. Returns what it returns (JSON); raises `RuntimeError`
        with what it throws."""
        async with asyncio.timeout(PATIENCE):
            target = (await self._call("Target.createTarget", {"url": page}))["targetId"]
            session = (await self._call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
            loaded = "document.readyState == 'complete' && location.href != 'about:blank'"
            while True:
                answer = await self._call("Runtime.evaluate", {"expression": loaded}, session)
                if answer["result"].get("value") is True:
                    break
                await asyncio.sleep(0.02)
            request = {"expression": f"(async () => {{ {script} }})()", "awaitPromise": True, "returnByValue": True}
            answer = await self._call("Runtime.evaluate", request, session)
            await self._call("Target.closeTarget", {"targetId": target})
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "the script failed"))
        return answer["result"].get("value")

    async def _start(self) -> None:
        self._process = subprocess.Popen(
            [program("chromium"), *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._profile), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port_file = self._profile / "DevToolsActivePort"
        while not port_file.exists() or port_file.read_text().count("\n") < 1:
            if self._process.poll() is not None:
                raise RuntimeError(f"Chromium ended with {self._process.returncode}")
            await asyncio.sleep(0.02)
        port, path = port_file.read_text().splitlines()[:2]
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0)

    async def _end(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait, PATIENCE)
        await asyncio.to_thread(shutil.rmtree, self._profile, True)

    async def _call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._sent += 1
        number = self._sent
        request = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        assert self._socket is not None
        await self._socket.send_str(json.dumps(request))
        while True:
            message = await self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            if "method" in message:
                self._events.append(message)

    async def _next_event(self) -> dict[str, Any]:
        while not self._events:
            message = await self._receive()
            if "method" in message:
                return message
        return self._events.popleft()

    async def _receive(self) -> dict[str, Any]:
        assert self._socket is not None
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise RuntimeError(f"Chromium hung up: {message.type}")
        return json.loads(message.data)
