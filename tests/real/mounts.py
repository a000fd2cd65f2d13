"""Disks that come and go: real file systems in memory, mounted where a test wants them, and taken away again. Only for root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CALL_SECONDS = 30.0


class MountedDisk:
    """A file system of its own. What it holds stays while it is mounted nowhere else than at `content`, which no service knows."""

    def __init__(self, content: Path) -> None:
        self.content = content

    def mount(self, folder: Path) -> None:
        """Over whatever is there."""
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(self.content), str(folder))

    def unmount(self, folder: Path, *, lazily: bool = True) -> None:
        """Lazily: also while somebody holds a file open there, as when a disk is pulled out or a share is gone."""
        _run("umount", *(["--lazy"] if lazily else []), str(folder))

    def eject(self) -> None:
        """Fails while anybody holds anything of it open."""
        _run("umount", str(self.content))


class DiskMounts:
    """Makes disks below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def make(self) -> MountedDisk:
        content = self._folder / f"disk-{self._made}"
        self._made += 1
        content.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(content))
        return MountedDisk(content)


def fill_up(folder: Path) -> None:
    """To the last byte of its disk."""
    with suppress(OSError), (folder / "somebody else's").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextmanager
def disks_below(folder: Path) -> Iterator[DiskMounts]:
    """Skips where it may not mount. At the end nothing is mounted below `folder` any more."""
    if os.geteuid() != 0:
        pytest.skip("mounting and unmounting a disk needs root")
    try:
        yield DiskMounts(folder / "disks")
    finally:
        for mounted in reversed(_mounted_below(folder)):
            _run("umount", "--lazy", mounted)


def _mounted_below(folder: Path) -> list[str]:
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if Path(place).is_relative_to(folder)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
