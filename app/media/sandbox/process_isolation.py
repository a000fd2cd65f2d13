"""Linux system calls that isolate a process and that Python does not wrap: prctl, unshare, Landlock.

`become_subreaper` and `set_parent_death_signal` are required and raise `OSError`. `unshare_network` and `apply_landlock` are best effort: they
return False where a container or an old kernel forbids them.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

# linux/landlock.h; the numbers of the calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_LANDLOCK_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
_RIGHTS_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1}
_NEWEST_RIGHTS = (1 << 15) - 1


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that it can kill them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(parent: int) -> None:
    """Have the kernel kill this process when its parent, `parent`, ends. Kills itself at once if `parent` has already ended."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def unshare_network() -> bool:
    """Enter an empty network namespace, without loopback. Works without root where the kernel permits user namespaces.

    Afterwards the process may hold capabilities in a user namespace of its own. The caller must exec next, which drops them.
    """
    # A partly entered namespace cannot be left, so a child process tries first.
    child = os.fork()
    if child == 0:
        entered = False
        try:
            entered = _unshare_namespaces()
        finally:
            os._exit(os.EX_OK if entered else os.EX_NOPERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == os.EX_OK and _unshare_namespaces()


def _unshare_namespaces() -> bool:
    if _libc.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    own = Path("/proc/self")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "setgroups").write_text("deny")
    (own / "gid_map").write_text(f"{group} {group} 1")
    return True


def apply_landlock(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Restrict this process and its descendants to opening files below `readable` (also to execute) and `writable`. Paths that do not
    exist are skipped."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION))
    if version < 1:
        return False
    handled = _RIGHTS_OF_VERSION.get(version, _NEWEST_RIGHTS)
    attributes = _RulesetAttributes(handled)
    ruleset = _libc.syscall(
        _LANDLOCK_CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        ctypes.c_uint32(0),
    )
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _add_rule(ruleset, path, _READ & handled)
        for path in writable:
            _add_rule(ruleset, path, handled & ~_EXECUTE)
        return _libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0
    except OSError:  # no restriction is in force yet
        return False
    finally:
        os.close(ruleset)


def _add_rule(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(rights if path.is_dir() else rights & _ON_FILES, descriptor)
        if _libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "landlock_add_rule", str(path))
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
