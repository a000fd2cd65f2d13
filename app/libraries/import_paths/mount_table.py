"""Which folders are mount points, and of what kind: from the kernel's table, without touching the file systems themselves.

Linux tells it in `/proc/self/mountinfo` (proc(5)); elsewhere a mount point is a folder on another device than the one above it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")

NETWORK_TYPES = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "virtiofs",
        "vboxsf",
        "vmhgfs",
    }
)
"""Changes made on the other side are not told to this kernel."""

KERNEL_TYPES = frozenset(
    {
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    }
)
"""What looks like files there is the kernel's: its state, devices, memory of processes."""
MEMORY_TYPES = frozenset({"ramfs", "tmpfs"})

SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/run")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - named, not used
"""Anybody's files, as in `/tmp`."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted on a place: the folder `root` of the file system on `device` (`major:minor`), of the type `fs_type`. The kernel gives a `mount_id`
    again once it is free."""

    mount_id: int
    device: str
    root: str
    fs_type: str


def read_mounts() -> dict[str, Mount]:
    """What is mounted on each mount point, by its path; empty where the system does not tell."""
    try:
        return parse_mounts(_TABLE.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return {}


def parse_mounts(table: str) -> dict[str, Mount]:
    """Of several mounts on one place the last one counts."""
    mounts: dict[str, Mount] = {}
    for line in table.splitlines():
        fields, _, after = line.partition(" - ")
        columns = fields.split(" ")
        if len(columns) >= 5 and after:
            mount = Mount(int(columns[0]), columns[2], _unescape(columns[3]), after.split(" ")[0])
            mounts[_unescape(columns[4])] = mount
    return mounts


def find_tree_mounts(root: str, mounts: Mapping[str, Mount]) -> tuple[str, ...]:
    """The mount points that a tree lies on, sorted: the one that holds its root (unless that is the system's own `/`), and those below."""
    holding = find_mount_point(root, mounts)
    below = [place for place in mounts if place.startswith(root + "/")]
    return tuple(sorted({*below, *([holding] if holding not in (None, "/") else [])}))


def find_mount_point(path: str, mounts: Mapping[str, Mount]) -> str | None:
    """The mount point that the path lies on."""
    holding = [place for place in mounts if path == place or path.startswith(place.rstrip("/") + "/")]
    return max(holding, key=len, default=None)


def is_network_type(fs_type: str) -> bool:
    """True also for what a program serves (FUSE), which seldom tells of changes made elsewhere."""
    return fs_type in NETWORK_TYPES or fs_type.startswith("fuse.")


def find_lost_mounts(recorded: Iterable[str], mounts: Mapping[str, Mount]) -> list[str]:
    """Those of the mount points that are none now."""
    if not mounts:
        return [path for path in recorded if not os.path.ismount(path)]
    return [path for path in recorded if path not in mounts]


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
