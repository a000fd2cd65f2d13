"""Mounts and unmounts real file systems in memory (tmpfs), to test disks that disappear and return. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

CALL_SECONDS = 30.0


class MountedDisk:
    """A tmpfs that stays mounted at `content`, a path that no service knows, so its files survive an unmount elsewhere."""

    def __init__(self, content: Path) -> None:
        self.content = content

    def mount(self, folder: Path) -> None:
        """Mount the disk over the folder; creates the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(self.content), str(folder))

    def unmount(self, folder: Path, *, lazily: bool = True) -> None:
        """`lazily` also unmounts with open files, as when a disk is pulled out or a share disappears."""
        _run("umount", *(["--lazy"] if lazily else []), str(folder))

    def eject(self) -> None:
        """Unmount it for good. Raises `OSError` while a process has a file of it open."""
        _run("umount", str(self.content))


class DiskMounts:
    """Creates disks below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def make(self) -> MountedDisk:
        content = self._folder / f"disk-{self._count}"
        self._count += 1
        content.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(content))
        return MountedDisk(content)


def fill_up(folder: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), (folder / "somebody else's").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextmanager
def disks_below(folder: Path) -> Iterator[DiskMounts]:
    """Skips the test without root. At the end everything below `folder` is unmounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting and unmounting a disk needs root")
    try:
        yield DiskMounts(folder / "disks")
    finally:
        for mounted in reversed(_mounted_below(folder)):
            _run("umount", "--lazy", mounted)


def _mounted_below(folder: Path) -> list[str]:
    mount_points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [mount_point for mount_point in mount_points if Path(mount_point).is_relative_to(folder)]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
