"""System calls that Python does not wrap: openat2, renameat2, mincore, a preadv that reads into a new `bytes`, and a complete writev.

openat2 and renameat2 fall back to plain calls where the kernel, the C library or a sandbox lacks them. Failures raise `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

_AT_FDCWD = -100
_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_CACHED = 0x20
_RENAME_NOREPLACE = 1
_PYBUF_WRITE = 0x200

_MAX_PIECES = 512
"""Most pieces of one writev (IOV_MAX is 1,024)."""

_UNSUPPORTED_ERRNOS = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.E2BIG})

RWF_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _load_libc_function(name: str, result: Any, *arguments: Any) -> Callable[..., Any] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.restype = result
        function.argtypes = arguments
    return function


_syscall = _load_libc_function(
    "syscall", ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
)
_renameat2 = _load_libc_function(
    "renameat2", ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)


def _load_python_function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    prototype = ctypes.PYFUNCTYPE(result, *arguments)
    return prototype((name, ctypes.pythonapi))


_new_bytes = _load_python_function("PyBytes_FromStringAndSize", ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)
_address_of = _load_python_function("PyBytes_AsString", ctypes.c_void_p, ctypes.py_object)
_view_of = _load_python_function(
    "PyMemoryView_FromMemory", ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
)


_PROT_READ = 1
_MAP_SHARED = 1
_MAP_FAILED = ctypes.c_void_p(-1).value
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def _load_short_call(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of libc that never waits for a disk, and so keeps the interpreter's lock."""
    function = getattr(ctypes.PyDLL(None), name)
    function.restype = result
    function.argtypes = arguments
    return function


_mmap = _load_short_call(
    "mmap", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
)
_munmap = _load_short_call("munmap", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_mincore = _load_short_call("mincore", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class ConfinedOpener:
    """Opens files below one folder only: a symbolic link in the path that leads outside fails with EXDEV.

    The kernel checks this while it resolves the name (openat2, Linux 5.6), so there is no race. Without openat2 the path of the open
    descriptor is checked after the opening.
    """

    def __init__(self, root: int) -> None:
        """`root` is the folder's descriptor; the caller closes it."""
        self._root = root
        self._root_path = os.path.realpath(f"/proc/self/fd/{root}")
        self._has_openat2 = _syscall is not None and self._try_openat2()

    @property
    def supports_open_cached(self) -> bool:
        """True where `open_cached` may succeed."""
        return self._has_openat2

    def open(self, name: bytes, flags: int, mode: int = 0o666) -> int:
        """Open `name`, relative to the folder. May block."""
        flags |= os.O_CLOEXEC
        if self._has_openat2:
            return self._openat2(name, flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
        descriptor = os.open(name, flags, mode, dir_fd=self._root)
        path = os.path.realpath(f"/proc/self/fd/{descriptor}")
        if path != self._root_path and not path.startswith(self._root_path.rstrip("/") + "/"):
            os.close(descriptor)
            raise OSError(errno.EXDEV, "leads outside")
        return descriptor

    def open_cached(self, name: bytes, flags: int) -> int:
        """As `open`, but fails with EAGAIN (`BlockingIOError`) where the name is not in the kernel's cache (Linux 5.12)."""
        return self._openat2(name, flags | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_CACHED)

    def _openat2(self, name: bytes, flags: int, mode: int, resolve: int) -> int:
        how = _OpenHow(flags, mode if flags & os.O_CREAT else 0, resolve)
        return _call_openat2(self._root, name, how)

    def _try_openat2(self) -> bool:
        try:
            os.close(self._openat2(b".", os.O_RDONLY | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS))
        except OSError:
            return False
        return True


def _call_openat2(root: int, name: bytes, how: _OpenHow) -> int:
    assert _syscall is not None  # noqa: S101 - for the type checker; the caller checked it
    while True:
        descriptor = _syscall(_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        # EAGAIN without RESOLVE_CACHED: a concurrent rename prevented the check; the call is to be repeated (openat2(2)).
        if number != errno.EINTR and not (number == errno.EAGAIN and not how.resolve & _RESOLVE_CACHED):
            raise OSError(number, os.strerror(number))


def open_without_links(root: int, name: bytes, flags: int) -> int:
    """Open `name`, relative to the folder of the descriptor `root`, if neither it nor a folder on the way is a symbolic link:
    otherwise it fails with ELOOP. `name` holds no `..`. Without openat2 each folder is opened in turn."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if _syscall is not None:
        try:
            return _call_openat2(root, name, _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS))
        except OSError as error:
            if error.errno not in _UNSUPPORTED_ERRNOS:
                raise
    return _walk_without_links(root, name, flags)


def _walk_without_links(root: int, name: bytes, flags: int) -> int:
    *folders, last = name.split(b"/")
    if b".." in (*folders, last):
        raise OSError(errno.EXDEV, "leads outside")
    folder = os.dup(root)
    try:
        for each in folders:
            below = os.open(each, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(last, flags, dir_fd=folder)
    finally:
        os.close(folder)


def rename_noreplace(folder: int, source: bytes, target_folder: int, target: bytes) -> None:
    """Rename atomically, failing with EEXIST (`FileExistsError`) where the target is taken.

    Without RENAME_NOREPLACE it makes a hard link and then removes the first name. Where the file system has no hard links either (FAT, some
    network shares), it checks the target and then renames: two racing writers of one key could then both succeed.
    """
    if _renameat2 is not None:
        if _renameat2(folder, source, target_folder, target, _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _UNSUPPORTED_ERRNOS:
            raise OSError(number, os.strerror(number))
    try:
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=target_folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED_ERRNOS | {errno.EMLINK}:
            raise
        _check_then_rename(folder, source, target_folder, target)
    else:
        os.unlink(source, dir_fd=folder)


def _check_then_rename(folder: int, source: bytes, target_folder: int, target: bytes) -> None:
    try:
        os.stat(target, dir_fd=target_folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=target_folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def write_all(descriptor: int, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
    """Writes the pieces, one after the other, however few bytes one call takes."""
    left: list[bytes | bytearray | memoryview] = list(pieces) if len(pieces) <= _MAX_PIECES else [b"".join(pieces)]
    while left:
        written = os.writev(descriptor, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if left and written:
            left[0] = memoryview(left[0])[written:]


def read_cached(descriptor: int, length: int, offset: int) -> bytes:
    """Reads up to `length` bytes at `offset`, at least one, from the page cache; b"" at the end of the file.

    Never waits for the disk: fails with EAGAIN (`BlockingIOError`) where the first byte is not in memory, with EOPNOTSUPP where the file
    system cannot tell. Reads into a new `bytes`, as C code does: 256 KiB take 19 us, with a `bytearray` (which is zeroed first) 24, with a
    `bytearray` copied to `bytes` 32. The writable view is gone before the `bytes` is returned.
    """
    data = _new_bytes(None, length)
    got = os.preadv(descriptor, [_view_of(_address_of(data), length, _PYBUF_WRITE)], offset, RWF_NOWAIT)
    return data if got == length else data[:got]


def count_cached_bytes(descriptor: int, offset: int, length: int) -> int:
    """How many of the `length` bytes from `offset` are in the page cache, up to the first that is not. 0 where the kernel cannot tell.

    For files that this process owns or may write: of others mincore(2) says that all is in memory.
    """
    before = offset % _PAGE_BYTES
    mapped = before + length
    address = _mmap(None, mapped, _PROT_READ, _MAP_SHARED, descriptor, offset - before)
    if address in (None, _MAP_FAILED):
        return 0
    try:
        pages = (mapped + _PAGE_BYTES - 1) // _PAGE_BYTES
        residency = ctypes.create_string_buffer(pages)
        if _mincore(address, mapped, residency) != 0:
            return 0
    finally:
        _munmap(address, mapped)
    missing = residency.raw.find(b"\0")
    return length if missing < 0 else max(0, missing * _PAGE_BYTES - before)
