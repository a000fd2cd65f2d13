"""The order of a local upload, as the kernel sees it: nothing is acknowledged before it would survive a power loss."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.starting import StartService
from tests.real.awaiting import eventually
from tests.real.uploading import fresh_bytes, uploaded

TRACED = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write,writev,pwrite64,sendto,sendmsg"
FILE_BYTES = 2_000_000
_CALL = re.compile(r"^(?:\d+\s+)?(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
_BEGUN = re.compile(r"^(?P<thread>\d+)\s+(?P<text>\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<thread>\d+)\s+<\.\.\. \w+ resumed>\s*(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that returned; calls are in the order of their return."""

    name: str
    arguments: str

    @property
    def flushes(self) -> bool:
        return self.name in ("fsync", "fdatasync")

    @property
    def names_a_file(self) -> bool:
        return self.name.startswith(("rename", "link"))


def test_an_upload_is_durable_before_it_is_acknowledged(start_service: StartService, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace here: install the package strace")
    trace = tmp_path / "trace.txt"
    service = start_service("local", wrap=(strace, "-f", "-y", "-s", "64", "-e", TRACED, "-o", str(trace)))
    with service.client(service.people.add()) as client:
        asset = uploaded(client, fresh_bytes(1000))
        client.get(f"/api/assets/{asset}")
        before = trace.stat().st_size
        uploaded(client, fresh_bytes(FILE_BYTES))

    eventually(lambda: b"HTTP/1.1 201" in trace.read_bytes()[before:], "the answer is in the trace")
    calls = _calls(trace.read_bytes()[before:].decode(errors="replace"))
    answer = _first(calls, lambda call: "HTTP/1.1 201" in call.arguments)
    renamed = _first(calls, lambda call: call.names_a_file and ".jpg" in call.arguments)
    (target,) = set(re.findall(r"<([^>]*)>", calls[renamed].arguments))
    media = str(service.stack.media)
    written = _last(
        calls[:renamed], lambda call: call.name in ("write", "writev", "pwrite64") and media in call.arguments
    )
    flushed = _first(calls, lambda call: call.flushes and media in call.arguments, start=written + 1)
    folder = _first(calls, lambda call: call.flushes and f"<{target}>" in call.arguments, start=renamed + 1)
    committed = _last(calls[:answer], lambda call: call.flushes and "catalogue.db-wal" in call.arguments)
    order = {
        "last byte written": written,
        "file flushed": flushed,
        "file named": renamed,
        "folder flushed": folder,
        "catalogue committed": committed,
        "answer sent": answer,
    }

    assert list(order.values()) == sorted(order.values()), order
    assert folder < committed < answer


def _calls(trace: str) -> list[Call]:
    """The calls by the moment they returned, also where another thread came in between."""
    begun: dict[str, str] = {}
    calls = []
    for line in trace.splitlines():
        if match := _BEGUN.match(line):
            begun[match["thread"]] = match["text"]
            continue
        if match := _RESUMED.match(line):
            line = f"{match['thread']} {begun.pop(match['thread'], '')} {match['text']}"
        if (match := _CALL.match(line)) and int(match["result"]) >= 0 and "[eventfd]" not in match["arguments"]:
            calls.append(Call(match["name"], match["arguments"]))
    return calls


def _first(calls: list[Call], wanted: Callable[[Call], bool], *, start: int = 0) -> int:
    found = next((at for at, call in enumerate(calls) if at >= start and wanted(call)), None)
    assert found is not None, "\n".join(str(call) for call in calls)
    return found


def _last(calls: list[Call], wanted: Callable[[Call], bool]) -> int:
    found = max((at for at, call in enumerate(calls) if wanted(call)), default=None)
    assert found is not None, "\n".join(str(call) for call in calls)
    return found
