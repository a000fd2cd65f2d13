"""One warden for each piece of work: it starts the worker, waits for its end, and leaves nothing alive.

A warden is forked from the fork server and talks to the service over a socket of its own, `control`. When the service closes
its side (it gives up, or is dead), the work is over. Orphans of the worker become children of the warden, so that neither a
new session nor a double fork escapes it. It hands on what the worker says and looks into none of it.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from app.media import kernel
from app.media.calls import answer
from app.media.work import INHERITED, Ended, How, Limits, Work

ERRORS_KEPT = 16 * 1024
"""Bytes of the end of stderr that are handed on."""

_SEND_SECONDS = 10.0
_END_SECONDS = 10.0
_CHUNK = 64 * 1024
_OPEN_FILES = 256

PROGRAM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", "MALLOC_ARENA_MAX": "2"}
"""All that a program is told about the machine. More arenas of malloc only reserve address space, which is limited."""

_SYSTEM_FILES = tuple(
    Path(name)
    for name in (
        "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/dev/urandom",
        "/dev/zero", "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", sys.prefix, sys.base_prefix,
        Path(__file__).parents[1],
    )
)  # fmt: skip


def keep(control: socket.socket, packed: bytes, inherited: Sequence[int]) -> NoReturn:
    """Do the packed `Work` in a child, which inherits that descriptor if there is one, send its `Ended` through `control`, end this process."""
    status = os.EX_SOFTWARE
    try:
        control.settimeout(_SEND_SECONDS)
        control.sendall(b"%d\n" % os.getpid())
        kernel.adopt_orphans()
        os.setsid()
        ended = _ended(control, Work.unpacked(packed), inherited)
        if ended is not None:
            control.sendall(ended.packed())
        status = os.EX_OK
    finally:
        os._exit(status)


def _ended(control: socket.socket, work: Work, inherited: Sequence[int]) -> Ended | None:
    """None when nobody waits for it any more."""
    output, output_end = os.pipe()
    errors, errors_end = os.pipe()
    warden = os.getpid()
    worker = os.fork()
    if worker == 0:
        control.close()
        os.close(output)
        os.close(errors)
        _work(work, warden, output_end, errors_end, inherited)
    for descriptor in (output_end, errors_end, *inherited):
        os.close(descriptor)
    said = _Said(output, errors, work.limits.output)
    try:
        how = _watch(control, worker, said, time.monotonic() + work.limits.seconds)
    finally:
        status = end_all(worker)
    if how is None:
        return None
    said.rest()
    if how is How.EXITED:
        how = How.TALKED_TOO_MUCH if said.too_much else How.KILLED if os.WIFSIGNALED(status) else How.EXITED
    code = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    return Ended(how, code, said.output.decode(errors="replace"), said.errors.decode(errors="replace"))


class _Said:
    """What comes through the worker's two pipes, bounded: of its output the beginning, of its errors the end."""

    def __init__(self, output: int, errors: int, limit: int) -> None:
        self._output_pipe = output
        self._errors_pipe = errors
        self._limit = limit
        self.output = bytearray()
        self.errors = bytearray()
        self.open = {output, errors}
        for pipe in self.open:
            os.set_blocking(pipe, False)

    @property
    def too_much(self) -> bool:
        return len(self.output) > self._limit

    def take(self, pipe: int) -> None:
        """Read once."""
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.open.discard(pipe)
        elif pipe == self._output_pipe:
            self.output += data[: self._limit + 1 - len(self.output)]
        else:
            self.errors += data
            del self.errors[:-ERRORS_KEPT]

    def rest(self) -> None:
        """What is still in the pipes, when all who could write are gone: never more than a pipe holds."""
        for pipe in tuple(self.open):
            for _ in range(1024):
                before = len(self.output), bytes(self.errors)
                self.take(pipe)
                if pipe not in self.open or (len(self.output), bytes(self.errors)) == before:
                    break


def _watch(control: socket.socket, worker: int, said: _Said, deadline: float) -> How | None:
    """Until the worker has ended (`EXITED`), must be ended, or nobody waits for it any more (None)."""
    exited = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(exited, select.POLLIN)
    for pipe in said.open:
        poll.register(pipe, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return How.TIMED_OUT
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor == control.fileno():
                return None
            if descriptor == exited:
                return How.EXITED
            said.take(descriptor)
            if descriptor not in said.open:
                poll.unregister(descriptor)
        if said.too_much:
            return How.TALKED_TOO_MUCH


def end_all(worker: int) -> int:
    """Kill the worker, its group and whatever else has become a child of this process, until nothing is left; the worker's
    wait status. Gives up after `_END_SECONDS`, on what the kernel does not let go."""
    status = 0
    deadline = time.monotonic() + _END_SECONDS
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    while time.monotonic() < deadline:
        for child in children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            child, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if child == worker:
            status = code
        if child == 0:
            time.sleep(0.001)
    return status


def children() -> list[int]:
    """The children of this process, those that it adopted among them."""
    own = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{own}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == own:
                    found.append(int(entry.name))
        return found


def _work(work: Work, warden: int, output: int, errors: int, inherited: Sequence[int]) -> NoReturn:
    """The worker: put on the limits, do it, end."""
    status = os.EX_SOFTWARE
    try:
        os.setsid()
        kernel.die_with(warden)
        aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, INHERITED) for descriptor in inherited]
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(output if work.program else errors, 1)
        os.dup2(errors, 2)
        result = os.dup2(output, 3)
        for descriptor in aside:
            os.dup2(descriptor, INHERITED)
        os.closerange(
            INHERITED + len(inherited), os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < _CHUNK else _CHUNK
        )
        os.chdir(work.folder or "/")
        _limit(work.limits)
        programs = tuple(Path(name).parent for name in work.program[:1])
        writable = [Path(os.devnull), *([Path(work.folder)] if work.folder else [])]
        kernel.confine((*_SYSTEM_FILES, *programs, *map(Path, work.readable)), writable)
        if work.program:
            os.set_inheritable(result, False)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            os.execve(work.program[0], work.program, PROGRAM_ENVIRONMENT)  # noqa: S606 - no shell is what is wanted
        _write(result, answer(work.call, work.arguments))
        status = os.EX_OK
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(status)


def _limit(limits: Limits) -> None:
    seconds = limits.cpu_seconds
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory, limits.memory),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, limits.file_size, limits.file_size),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    ):
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
