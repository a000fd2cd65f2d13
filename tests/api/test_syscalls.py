"""The system calls of a local upload and of a removal, in order: nothing is acknowledged before it would survive a power loss."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.consistency import read_state
from tests.api.start_service import StartService
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

TRACED = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write,writev,pwrite64,sendto,sendmsg,mkdir,mkdirat,unlink,unlinkat"
FILE_BYTES = 2_000_000
_CALL = re.compile(r"^(?:\d+\s+)?(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
_BEGUN = re.compile(r"^(?P<thread>\d+)\s+(?P<text>\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<thread>\d+)\s+<\.\.\. \w+ resumed>\s*(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A completed system call; calls are ordered by the time of their return."""

    name: str
    arguments: str

    @property
    def flushes(self) -> bool:
        return self.name in ("fsync", "fdatasync")

    @property
    def makes_a_folder(self) -> bool:
        return self.name.startswith("mkdir")

    @property
    def names_a_file(self) -> bool:
        return self.name.startswith(("rename", "link"))


@pytest.fixture
def traced(start_service: StartService, tmp_path: Path) -> tuple[Service, Path]:
    """A service on a local disk, and the strace output file of its system calls."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace here: install the package strace")
    trace = tmp_path / "trace.txt"
    return start_service("local", wrap=(strace, "-f", "-y", "-s", "64", "-e", TRACED, "-o", str(trace))), trace


def test_an_upload_is_durable_before_it_is_acknowledged(traced: tuple[Service, Path]) -> None:
    service, trace = traced
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
    made = [at for at, call in enumerate(calls) if call.makes_a_folder and media in call.arguments]
    assert made, "random names have folders of their own"
    for at in made:
        above = re.findall(r"<([^>]*)>", calls[at].arguments)[0]
        assert (
            _first(calls, lambda call, above=above: call.flushes and f"<{above}>" in call.arguments, start=at)
            < committed
        )


def test_a_removed_file_does_not_come_back_without_its_row(traced: tuple[Service, Path]) -> None:
    service, trace = traced
    with service.client(service.people.add()) as client:
        asset = uploaded(client, fresh_bytes(1000))
        before = trace.stat().st_size
        answer = client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True})
        assert answer.status_code == 204
        eventually(lambda: not read_state(service.stack).files, "its row is gone")

    eventually(lambda: len(_forgotten(_calls(trace.read_text(errors="replace")[before:]))) > 0, "and that in the trace")
    calls = _calls(trace.read_text(errors="replace")[before:])
    acknowledged = _first(calls, lambda call: "HTTP/1.1 204" in call.arguments)
    doomed = _first(calls, lambda call: call.flushes and "catalogue.db-wal" in call.arguments)
    unlinked = _first(calls, lambda call: call.name.startswith("unlink") and ".jpg" in call.arguments)
    folder = re.findall(r"<([^>]*)>", calls[unlinked].arguments)[0]
    flushed = _first(calls, lambda call: call.flushes and f"<{folder}>" in call.arguments, start=unlinked)
    assert doomed < acknowledged
    assert doomed < unlinked < flushed < _forgotten(calls)[0]


def _forgotten(calls: list[Call]) -> list[int]:
    """The indices of writes to the catalogue after a file was unlinked."""
    unlinked = next((at for at, call in enumerate(calls) if call.name.startswith("unlink")), len(calls))
    written = ("write", "writev", "pwrite64")
    return [
        at
        for at, call in enumerate(calls)
        if at > unlinked and call.name in written and "catalogue.db-wal" in call.arguments
    ]


def _calls(trace: str) -> list[Call]:
    """The calls in the order of their return, including those that strace prints in two parts because another thread ran in between."""
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
