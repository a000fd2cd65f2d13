"""Reads the kernel's mount table: mount points and their file system types, without a call to the file systems themselves.

The source is `/proc/self/mountinfo` of Linux (proc(5)). Where there is none, a mount point is a folder on another device than its parent.
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
"""Network file systems: the kernel reports no inotify events for changes that other hosts make."""

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
"""Virtual file systems whose files are the kernel's: its state, devices, memory of processes."""
MEMORY_TYPES = frozenset({"ramfs", "tmpfs"})

SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/run")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - named, not used
"""Below `/dev`, but holds files of users, as `/tmp` does."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: the folder `root` of the file system on `device` (`major:minor`), of type `fs_type`. The kernel reuses a `mount_id` after an
    unmount."""

    mount_id: int
    device: str
    root: str
    fs_type: str


def read_mounts() -> dict[str, Mount]:
    """The mounts by the path of their mount point; empty on systems without the table."""
    try:
        return parse_mounts(_TABLE.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return {}


def parse_mounts(table: str) -> dict[str, Mount]:
    """As `read_mounts`, from the table's text. Of several mounts on one mount point the last one counts: it hides the others."""
    mounts: dict[str, Mount] = {}
    for line in table.splitlines():
        fields, _, after = line.partition(" - ")
        columns = fields.split(" ")
        if len(columns) >= 5 and after:
            mount = Mount(int(columns[0]), columns[2], _unescape(columns[3]), after.split(" ")[0])
            mounts[_unescape(columns[4])] = mount
    return mounts


def find_tree_mounts(root: str, mounts: Mapping[str, Mount]) -> tuple[str, ...]:
    """The mount points that a directory tree spans, sorted: the one that its root is on (unless that is `/`), and those below the root."""
    root_mount_point = find_mount_point(root, mounts)
    below = [mount_point for mount_point in mounts if mount_point.startswith(root + "/")]
    return tuple(sorted({*below, *([root_mount_point] if root_mount_point not in (None, "/") else [])}))


def find_mount_point(path: str, mounts: Mapping[str, Mount]) -> str | None:
    """The mount point that the path is on; None if the table has none."""
    candidates = [
        mount_point for mount_point in mounts if path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
    ]
    return max(candidates, key=len, default=None)


def is_network_type(fs_type: str) -> bool:
    """True also for FUSE, which seldom reports changes that were made elsewhere."""
    return fs_type in NETWORK_TYPES or fs_type.startswith("fuse.")


def find_lost_mounts(recorded: Iterable[str], mounts: Mapping[str, Mount]) -> list[str]:
    """The recorded mount points that are no longer mount points. `recorded` comes from the last full scan."""
    if not mounts:
        return [path for path in recorded if not os.path.ismount(path)]
    return [path for path in recorded if path not in mounts]


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda escape: chr(int(escape[1], 8)), text)
