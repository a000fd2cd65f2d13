"""`NetworkShare`: makes a folder of the test behave as one on a network share."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.storage.local import syscalls

_HANG_SECONDS = 30.0


class NetworkShare:
    """From now on the file system of `folder` has no reads that never wait. Calls for files that are open in it, and for names relative to
    them, are recorded where the current thread makes them; other threads wait until `answers` is set."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.calls_of_the_loop: list[str] = []
        self._folder = f"{folder}/"
        self._loop_thread = threading.get_ident()
        for name in ("open", "close", "fstat", "stat", "fstatvfs", "pread", "preadv", "writev", "sendfile", "unlink"):
            monkeypatch.setattr(os, name, self._watch(name, getattr(os, name)))
        monkeypatch.setattr(fcntl, "flock", self._watch("flock", fcntl.flock))
        for name in ("_call_openat2", "_mmap"):
            monkeypatch.setattr(syscalls, name, self._watch(name, getattr(syscalls, name)))

    def _watch(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            candidates = [*arguments[:5], named.get("dir_fd")]
            if any(type(each) is int and self._is_inside(each) for each in candidates):
                self._on_call(name)
                if name == "preadv" and arguments[3:] == (os.RWF_NOWAIT,):
                    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return call(*arguments, **named)

        return watched

    def _on_call(self, name: str) -> None:
        if threading.get_ident() == self._loop_thread:
            self.calls_of_the_loop.append(name)
        elif not self.answers.wait(_HANG_SECONDS):
            raise OSError(errno.EIO, "the test has not ended the hang")

    def _is_inside(self, descriptor: int) -> bool:
        try:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
        except OSError:
            return False
        return str(path).startswith(self._folder)
