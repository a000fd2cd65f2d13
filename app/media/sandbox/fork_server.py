"""The fork server: a process that has loaded the decoding libraries and forks one supervisor per request. It has no network and reads no
user data. The library for camera RAW is loaded before the first request that needs it.

`python -I -m app.media.sandbox.fork_server DESCRIPTOR`, which `network_isolation` executes: the descriptor is a socket, from which it receives
requests. With each request come the control socket of its supervisor and, if the original is an open file without a reliable path, the
descriptor of that file. The fork server ends when the socket is closed. It inherits neither environment variables nor other descriptors of the
service.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from app.media.sandbox import process_isolation, supervisor, worker_functions
from app.media.sandbox.messages import SandboxRequest

MAX_REQUEST_BYTES = 64 * 1024
"""Limit on the bytes of one serialized request."""

NICENESS = 5
"""Nice value of supervisors and workers, so that the service stays responsive."""

_OUT_OF_MEMORY_SCORE = "800"
_ORPHAN_ROUNDS = 1000


def main() -> None:
    descriptor = int(sys.argv[1])
    inbox = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    os.nice(NICENESS)
    # Out of memory, the kernel kills a worker and not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_isolation.become_subreaper()
    _serve(inbox)


def _serve(inbox: socket.socket) -> None:
    gc.collect()
    gc.freeze()
    supervisors: dict[int, int] = {}
    poll = select.poll()
    poll.register(inbox, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != inbox.fileno():
                poll.unregister(ready)
                os.waitpid(supervisors.pop(ready), 0)
                os.close(ready)
                _end_orphans(set(supervisors.values()))
                continue
            packed, descriptors, _, _ = socket.recv_fds(inbox, MAX_REQUEST_BYTES, 2)
            if not packed:
                return
            _load_decoder(packed)
            inherited = descriptors[1:]
            with socket.socket(fileno=descriptors[0]) as control:
                pid = os.fork()
                if pid == 0:
                    inbox.close()
                    for other in supervisors:
                        os.close(other)
                    supervisor.supervise(control, packed, inherited)
            for each in inherited:
                os.close(each)
            pidfd = os.pidfd_open(pid)
            supervisors[pidfd] = pid
            poll.register(pidfd, select.POLLIN)


def _load_decoder(packed: bytes) -> None:
    with suppress(ValueError, KeyError, TypeError):  # the supervisor refuses such a request
        worker_functions.load_decoder(SandboxRequest.from_bytes(packed).arguments)


def _end_orphans(supervisors: set[int]) -> None:
    """Kill the processes that a killed supervisor left behind. They are children of this process, which is their subreaper."""
    for _ in range(_ORPHAN_ROUNDS):
        orphans = [child for child in supervisor.list_children() if child not in supervisors]
        if not orphans:
            return
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)  # not reaped yet, so the pid still names the same process
        for orphan in orphans:
            os.waitpid(orphan, 0)


if __name__ == "__main__":
    main()
