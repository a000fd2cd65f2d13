"""Programs of other people that take what the service gives: each is found or the test is skipped with one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGES = {
    "7z": "p7zip-full",
    "aria2c": "aria2",
    "bsdtar": "libarchive-tools",
    "chromium": "chromium",
    "curl": "curl",
    "ffmpeg": "ffmpeg",
    "ffprobe": "ffmpeg",
    "strace": "strace",
    "unzip": "unzip",
    "wget": "wget",
}
RUN_SECONDS = 600.0
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": "/nonexistent"}
"""No proxy and no configuration of whoever runs the tests."""


def program(name: str) -> str:
    """Where the program is."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: install the package {PACKAGES[name]}")
    return found


def run(name: str, *arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """The program's end, whatever its exit status."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=RUN_SECONDS, check=False)


def start(name: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """The program, running; whoever starts it ends it."""
    command: Sequence[str] = [program(name), *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def assert_unpacks(archive: Path, count: int, total: int) -> None:
    """`unzip`, `7z`, `bsdtar` and Python find `count` files of `total` bytes together, with the right checksums."""
    tested = run("unzip", "-tqq", archive)
    assert tested.returncode == (0 if count else 1), tested.stdout + tested.stderr  # an empty zip is a warning to it
    tested = run("7z", "t", archive)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert f"Size:       {total}".encode() in tested.stdout or not count, tested.stdout
    assert _bytes_of_bsdtar(archive) == total
    assert _python_reads(archive) == (count, total)


def _bytes_of_bsdtar(archive: Path) -> int:
    """All that it unpacks; fails on the first checksum that is wrong."""
    command = [program("bsdtar"), "-xOf", str(archive)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        total = 0
        while data := unpacking.stdout.read(1024 * 1024):
            total += len(data)
        assert unpacking.stderr is not None
        told = unpacking.stderr.read()
    assert unpacking.returncode == 0, told
    return total


def _python_reads(archive: Path) -> tuple[int, int]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        members = opened.infolist()
    assert len({member.filename for member in members}) == len(members)
    return len(members), sum(member.file_size for member in members)
