"""The process that workers are forked from: it has loaded the libraries, has no network, and never sees user data.

`python -I -m app.media.sandbox.fork_server DESCRIPTOR`: on this socket it is given pieces of work, each with the socket that its warden
talks through, and with the open file to be worked on where that has no path to rely on. It ends when the socket is closed. Nothing of the service's environment or descriptors reaches it.
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

from app.media.sandbox import process_isolation, supervisor

MAX_REQUEST_BYTES = 64 * 1024
"""Bytes of one piece of work as it is handed over."""

NICENESS = 5
"""What workers leave to the service, which must stay quick."""

_OUT_OF_MEMORY_SCORE = "800"
_ORPHAN_ROUNDS = 1000


def main() -> None:
    descriptor = int(sys.argv[1])
    if len(sys.argv) == 2:
        process_isolation.unshare_network()
        os.set_inheritable(descriptor, True)
        # A new image of the process holds no capabilities of the namespace that was made for it.
        os.execv(  # noqa: S606 - no shell is what is wanted
            sys.executable, [sys.executable, "-I", "-m", "app.media.sandbox.fork_server", str(descriptor), "inside"]
        )
    inbox = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    os.nice(NICENESS)
    # When memory runs out, the kernel ends a worker, and not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OUT_OF_MEMORY_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_isolation.become_subreaper()
    _serve(inbox)


def _serve(inbox: socket.socket) -> None:
    gc.collect()
    gc.freeze()
    wardens: dict[int, int] = {}
    poll = select.poll()
    poll.register(inbox, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != inbox.fileno():
                poll.unregister(ready)
                os.waitpid(wardens.pop(ready), 0)
                os.close(ready)
                _end_orphans(set(wardens.values()))
                continue
            packed, descriptors, _, _ = socket.recv_fds(inbox, MAX_REQUEST_BYTES, 2)
            if not packed:
                return
            inherited = descriptors[1:]
            with socket.socket(fileno=descriptors[0]) as control:
                process = os.fork()
                if process == 0:
                    inbox.close()
                    for other in wardens:
                        os.close(other)
                    supervisor.supervise(control, packed, inherited)
            for each in inherited:
                os.close(each)
            pidfd = os.pidfd_open(process)
            wardens[pidfd] = process
            poll.register(pidfd, select.POLLIN)


def _end_orphans(wardens: set[int]) -> None:
    """A warden that was killed itself leaves what its worker started: nobody else would end it."""
    for _ in range(_ORPHAN_ROUNDS):
        orphans = [child for child in supervisor.list_children() if child not in wardens]
        if not orphans:
            return
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)  # not reaped yet, so it is still the same process
        for orphan in orphans:
            os.waitpid(orphan, 0)


if __name__ == "__main__":
    main()
