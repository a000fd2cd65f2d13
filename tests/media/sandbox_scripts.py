"""Misbehaving scripts for the sandbox, and a search for processes that they left behind."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from app.media.sandbox.messages import ResourceLimits, SandboxRequest
from tests.real.waiting import WITHIN_SECONDS

MEBIBYTE = 1024 * 1024
LIMITS = ResourceLimits(seconds=20, cpu_seconds=20, memory=1024 * MEBIBYTE, file_size=8 * MEBIBYTE, output=64 * 1024)

ESCAPING = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for generation in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() != 0 and generation == 0:
                os._exit(0)
            time.sleep(600)
    open("ready", "w").close()
    time.sleep(600)
"""
"""Ignores SIGTERM and starts five processes that stay, in sessions of their own, one of them an orphan."""

FAMILY = 6
"""Number of processes of `ESCAPING`, the first one included."""


def script_request(text: str, folder: Path, *arguments: str, limits: ResourceLimits = LIMITS) -> SandboxRequest:
    program = (sys.executable, "-I", "-S", "-c", textwrap.dedent(text), *arguments)
    return SandboxRequest(call="", arguments={}, program=program, folder=str(folder), readable=(), limits=limits)


def processes_in(folder: Path) -> set[int]:
    """The pids of live processes whose working folder is `folder`."""
    pids: set[int] = set()
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                pids.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return pids


async def wait_until(condition: Callable[[], bool], *, within: float = WITHIN_SECONDS) -> None:
    """Return as soon as `condition` holds; other tasks run meanwhile. Fails after `within` seconds."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within:g} s"
        await asyncio.sleep(0.02)


def find_newest_fork_server() -> psutil.Process:
    """The fork server that a sandbox of this process has started last."""
    servers = [
        process for process in psutil.Process().children() if "app.media.sandbox.fork_server" in process.cmdline()
    ]
    return max(servers, key=lambda process: process.create_time())
