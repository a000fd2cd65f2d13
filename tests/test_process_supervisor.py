"""What a whole service does not show of `ProcessSupervisor`, in a process of its own: the supervisor forks."""

from __future__ import annotations

import subprocess
import sys

WITHIN_SECONDS = 60
HANGING_REPLACEMENT = """
import os, select, signal
from app.api.http.server import READY
from app.cli import process_supervisor

process_supervisor.REPLACEMENT_SECONDS = 0.5

def serve(process):
    if not process.is_first:
        select.select([], [], [], 60)
        return 1
    process.channel.send(READY)
    os.kill(os.getppid(), signal.SIGHUP)
    told = select.select([process.channel], [], [], 2)[0]
    print("stops" if told else "stays", flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
    process.channel.recv(1)
    return 0

raise SystemExit(process_supervisor.ProcessSupervisor(1, serve, [], drain_delay=0).run())
"""


def test_a_replacement_that_hangs_is_given_up_and_the_older_process_stays() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING_REPLACEMENT], capture_output=True, text=True, timeout=WITHIN_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "stays" in ended.stdout
    assert ended.stdout.count("a new process did not start") + ended.stderr.count("a new process did not start") == 1
