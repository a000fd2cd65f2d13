"""A file system that hangs on demand, like a hard NFS mount whose server is down. Needs root.

It is a read-only FUSE file system that answers requests of `/dev/fuse` itself (linux/fuse.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_REQUEST = struct.Struct("<IIQQIIII")
_REPLY = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ROOT = 1
_DETACH = 2
_READ_ONLY = 1
_BUFFER_BYTES = 1 << 20
_TIME = 1_700_000_000
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _INIT, _OPENDIR, _READDIR = 1, 2, 3, 14, 15, 17, 26, 27, 28
_RELEASE, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 18, 29, 36, 42
_UNANSWERED = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_DIRECT_IO = 1


@dataclass(slots=True)
class _Node:
    content: bytes | None = None
    children: dict[str, int] = field(default_factory=dict)


class HangingFileSystem:
    """`files` by path, with `/` as separator."""

    def __init__(self, mount: Path, files: Mapping[str, bytes]) -> None:
        self.mount = mount
        self._nodes: dict[int, _Node] = {_ROOT: _Node()}
        for name, content in files.items():
            self._add(name, content)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self._answering = threading.Event()
        self._answering.set()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def hang(self) -> None:
        """Answer no request from now on."""
        self._answering.clear()

    def answer(self) -> None:
        """Answer requests again, those that wait included."""
        self._answering.set()

    def open(self) -> None:
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        _system("mount", b"hanging", os.fsencode(self.mount), b"fuse.hanging", _READ_ONLY, options.encode())
        self._thread.start()
        # Teaches the kernel to send no FLUSH when a file is closed: a signal cannot interrupt that request.
        next(path for path in self.mount.rglob("*") if path.is_file()).read_bytes()

    def close(self) -> None:
        """Unmount; waiting calls fail."""
        self._ended = True
        self._answering.set()
        _system("umount2", os.fsencode(self.mount), _DETACH)
        os.close(self._device)
        self._thread.join(10)

    def _add(self, name: str, content: bytes) -> None:
        node = self._nodes[_ROOT]
        *folders, last = name.split("/")
        for segment in folders:
            node = self._nodes[node.children.setdefault(segment, self._add_node(_Node()))]
        node.children[last] = self._add_node(_Node(content))

    def _add_node(self, node: _Node) -> int:
        number = len(self._nodes) + 1
        self._nodes[number] = node
        return number

    def _serve(self) -> None:
        with suppress(OSError):
            while not self._ended:
                ready, _, _ = select.select([self._device], [], [], 0.05)
                self._answering.wait()
                if ready and not self._ended:
                    self._answer_one()

    def _answer_one(self) -> None:
        try:
            request = os.read(self._device, _BUFFER_BYTES)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the caller has given up
                return
            raise
        _, operation, unique, node, *_ = _REQUEST.unpack_from(request)
        if operation in _UNANSWERED:
            return
        answer = self._reply_to(operation, node, request[_REQUEST.size :])
        body, failure = (b"", -answer) if isinstance(answer, int) else (answer, 0)
        with suppress(FileNotFoundError):
            os.write(self._device, _REPLY.pack(_REPLY.size + len(body), failure, unique) + body)

    def _reply_to(self, operation: int, number: int, body: bytes) -> bytes | int:
        """The answer's body, or an errno."""
        node = self._nodes[number or _ROOT]
        if operation == _INIT:
            return struct.pack("<4IHHIIHHI7I", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, *([0] * 8))
        if operation == _LOOKUP:
            child = node.children.get(os.fsdecode(body.rstrip(b"\0")))
            return (
                errno.ENOENT if child is None else struct.pack("<4Q2I", child, 0, 0, 0, 0, 0) + self._attributes(child)
            )
        if operation == _GETATTR:
            return struct.pack("<Q2I", 0, 0, 0) + self._attributes(number)
        if operation in (_OPEN, _OPENDIR):
            return struct.pack("<Q2I", 0, _DIRECT_IO if operation == _OPEN else 0, 0)
        if operation in (_READ, _READDIR):
            _, offset, size = struct.unpack_from("<QQI", body)
            return (self._entries(node) if node.content is None else node.content)[offset : offset + size]
        if operation == _STATFS:
            return struct.pack("<5Q4I6I", 1000, 500, 500, 1000, 500, 4096, 255, 4096, 0, *([0] * 6))
        return b"" if operation in (_RELEASE, _RELEASEDIR) else errno.ENOSYS

    def _attributes(self, number: int) -> bytes:
        content = self._nodes[number].content
        mode = stat.S_IFDIR | 0o755 if content is None else stat.S_IFREG | 0o644
        size = len(content or b"")
        return _ATTRIBUTES.pack(number, size, size // 512 + 1, _TIME, _TIME, _TIME, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _entries(self, node: _Node) -> bytes:
        listed = b""
        for name, number in node.children.items():
            encoded = os.fsencode(name)
            length = 24 + len(encoded)
            padded = length + -length % 8
            kind = 4 if self._nodes[number].content is None else 8
            entry = struct.pack("<QQII", number, len(listed) + padded, len(encoded), kind) + encoded
            listed += entry.ljust(padded, b"\0")
        return listed


@contextmanager
def mount_hanging_file_system(mount: Path, files: Mapping[str, bytes]) -> Iterator[HangingFileSystem]:
    """Skips where it may not mount."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("a FUSE file system needs root and /dev/fuse")
    mount.mkdir(parents=True)
    disk = HangingFileSystem(mount, files)
    disk.open()
    try:
        yield disk
    finally:
        disk.close()


def _system(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
