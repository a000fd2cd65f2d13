"""The supervisor of one request: forks the worker, waits for its end or a limit, and kills all of its descendants.

A supervisor is forked from the fork server and has a socket to the service, `control`. It stops when the service closes its side, because it has
given up or is dead. Orphans of the worker become children of the supervisor, so neither a new session nor a double fork escapes. The supervisor
passes the worker's output on without parsing it.
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

from app.media.sandbox import process_isolation
from app.media.sandbox.messages import INHERITED_DESCRIPTOR, ExitKind, ResourceLimits, SandboxRequest, SandboxResult
from app.media.sandbox.worker_functions import run_function

MAX_STDERR_BYTES = 16 * 1024
"""Bytes of the end of stderr that are passed on."""

_SEND_SECONDS = 10.0
_END_SECONDS = 10.0
_CHUNK = 64 * 1024
_OPEN_FILES = 256

PROGRAM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", "MALLOC_ARENA_MAX": "2"}
"""The environment of a program. Few malloc arenas, because each reserves address space, which is limited."""

_SYSTEM_FILES = tuple(
    Path(name)
    for name in (
        "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/dev/urandom",
        "/dev/zero", "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", sys.prefix, sys.base_prefix,
        Path(__file__).parents[2],
    )
)  # fmt: skip


def supervise(control: socket.socket, packed: bytes, inherited: Sequence[int]) -> NoReturn:
    """Run the packed `SandboxRequest` in a child that inherits the descriptors in `inherited`, send the `SandboxResult` through `control`, and
    end this process."""
    status = os.EX_SOFTWARE
    try:
        control.settimeout(_SEND_SECONDS)
        control.sendall(b"%d\n" % os.getpid())
        process_isolation.become_subreaper()
        os.setsid()
        result = _run_supervised(control, SandboxRequest.from_bytes(packed), inherited)
        if result is not None:
            control.sendall(result.to_bytes())
        status = os.EX_OK
    finally:
        os._exit(status)


def _run_supervised(control: socket.socket, request: SandboxRequest, inherited: Sequence[int]) -> SandboxResult | None:
    """None if the service has closed its side of `control`."""
    output, output_end = os.pipe()
    errors, errors_end = os.pipe()
    own_pid = os.getpid()
    worker = os.fork()
    if worker == 0:
        control.close()
        os.close(output)
        os.close(errors)
        _run_worker(request, own_pid, output_end, errors_end, inherited)
    for descriptor in (output_end, errors_end, *inherited):
        os.close(descriptor)
    pipes = _PipeReader(output, errors, request.limits.output)
    try:
        exit_kind = _wait_for_end(control, worker, pipes, time.monotonic() + request.limits.seconds)
    finally:
        status = kill_descendants(worker)
    if exit_kind is None:
        return None
    pipes.drain()
    if exit_kind is ExitKind.EXITED:
        exit_kind = (
            ExitKind.OUTPUT_TOO_LARGE
            if pipes.is_over_limit
            else ExitKind.KILLED
            if os.WIFSIGNALED(status)
            else ExitKind.EXITED
        )
    code = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    return SandboxResult(exit_kind, code, pipes.output.decode(errors="replace"), pipes.errors.decode(errors="replace"))


class _PipeReader:
    """Reads the worker's two pipes, bounded: keeps the beginning of its output and the end of its errors."""

    def __init__(self, output: int, errors: int, limit: int) -> None:
        self._output_pipe = output
        self._errors_pipe = errors
        self._limit = limit
        self.output = bytearray()
        self.errors = bytearray()
        self.open_pipes = {output, errors}
        for pipe in self.open_pipes:
            os.set_blocking(pipe, False)

    @property
    def is_over_limit(self) -> bool:
        return len(self.output) > self._limit

    def read_once(self, pipe: int) -> None:
        """Read at most one chunk."""
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.open_pipes.discard(pipe)
        elif pipe == self._output_pipe:
            self.output += data[: self._limit + 1 - len(self.output)]
        else:
            self.errors += data
            del self.errors[:-MAX_STDERR_BYTES]

    def drain(self) -> None:
        """Read the rest of the pipes after all writers have ended: never more than a pipe holds."""
        for pipe in tuple(self.open_pipes):
            for _ in range(1024):
                before = len(self.output), bytes(self.errors)
                self.read_once(pipe)
                if pipe not in self.open_pipes or (len(self.output), bytes(self.errors)) == before:
                    break


def _wait_for_end(control: socket.socket, worker: int, pipes: _PipeReader, deadline: float) -> ExitKind | None:
    """Wait until the worker has ended (`EXITED`) or must be killed (time or output limit); None if the service has closed `control`."""
    exited = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(exited, select.POLLIN)
    for pipe in pipes.open_pipes:
        poll.register(pipe, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return ExitKind.TIMED_OUT
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor == control.fileno():
                return None
            if descriptor == exited:
                return ExitKind.EXITED
            pipes.read_once(descriptor)
            if descriptor not in pipes.open_pipes:
                poll.unregister(descriptor)
        if pipes.is_over_limit:
            return ExitKind.OUTPUT_TOO_LARGE


def kill_descendants(worker: int) -> int:
    """Kill the worker, its process group and all children of this process until none is left. Returns the worker's wait status.

    Gives up after `_END_SECONDS` on processes that the kernel does not end, such as in uninterruptible I/O.
    """
    status = 0
    deadline = time.monotonic() + _END_SECONDS
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    while time.monotonic() < deadline:
        for child in list_children():
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


def list_children() -> list[int]:
    """The pids of this process's children, adopted orphans included."""
    own = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{own}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        children = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == own:
                    children.append(int(entry.name))
        return children


def _run_worker(
    request: SandboxRequest, supervisor: int, output: int, errors: int, inherited: Sequence[int]
) -> NoReturn:
    """The worker process: set up descriptors, apply limits and Landlock, run the function or exec the program, end."""
    status = os.EX_SOFTWARE
    try:
        os.setsid()
        process_isolation.set_parent_death_signal(supervisor)
        moved_descriptors = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, INHERITED_DESCRIPTOR) for descriptor in inherited]
        devnull = os.open(os.devnull, os.O_RDWR)
        os.dup2(devnull, 0)
        os.dup2(output if request.program else errors, 1)
        os.dup2(errors, 2)
        result = os.dup2(output, 3)
        for descriptor in moved_descriptors:
            os.dup2(descriptor, INHERITED_DESCRIPTOR)
        os.closerange(
            INHERITED_DESCRIPTOR + len(inherited),
            os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < _CHUNK else _CHUNK,
        )
        os.chdir(request.folder or "/")
        _apply_limits(request.limits)
        programs = tuple(Path(name).parent for name in request.program[:1])
        writable = [Path(os.devnull), *([Path(request.folder)] if request.folder else []), *map(Path, request.devices)]
        process_isolation.apply_landlock((*_SYSTEM_FILES, *programs, *map(Path, request.readable)), writable)
        if request.program:
            os.set_inheritable(result, False)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            os.execve(request.program[0], request.program, PROGRAM_ENVIRONMENT)  # noqa: S606 - intentionally without a shell
        _write_all(result, run_function(request.call, request.arguments))
        status = os.EX_OK
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(status)


def _apply_limits(limits: ResourceLimits) -> None:
    seconds = limits.cpu_seconds
    address_space = limits.memory if limits.address_space is None else limits.address_space
    for kind, soft, hard in (
        (resource.RLIMIT_AS, address_space, address_space),
        (resource.RLIMIT_DATA, limits.memory, limits.memory),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_FSIZE, limits.file_size, limits.file_size),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    ):
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
