"""`python -m tests.storage.guarantees.resumable_writers <orders> <row file> <chunk> …`: forks writers that upload in chunks and die, or stop.

Each line of the pipe `orders`, `kill <effect>` or `stop <effect>`, forks a writer that sends itself the signal right before that effect: the
number of an effect (1 is the first), or `<name>#<number>` for one of its kind. `wake` wakes the stopped writer. Each answer is `died`,
`stopped`, or `ended <status>`: 0 is a whole upload; for `TAKEN_OVER` and `REFUSED` see below. The storage settings are in its environment.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from app.config import Settings
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.local import resumable as local_resumable
from app.storage.local import resumable_file
from app.storage.local.file_writer import PendingFile
from app.storage.local.resumable_file import ResumableFile
from app.storage.opening import open_storage
from app.storage.s3 import S3Backend
from app.storage.s3 import resumable as s3_resumable
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from tests.real.sdk_caches import keep_sdk_descriptions
from tests.storage.guarantees.content import MEBIBYTE, pattern
from tests.storage.guarantees.resumable_row import TakenOver, UploadRow

KEY = Key("folder/resumed")
PART_BYTES = 5 * MEBIBYTE
"""The smallest part that the stores accept."""

TAKEN_OVER, REFUSED = 3, 4
_PR_SET_PDEATHSIG = 1

_EFFECTS: Sequence[tuple[Any, Sequence[str]]] = (
    (resumable_file, ("create_locked_temporary",)),
    (ResumableFile, ("try_lock", "go_to")),
    (PendingFile, ("write", "_sync", "_rename")),
    (local_resumable, ("remove_files",)),
    (S3Client, ("put", "create_upload", "upload_part", "complete", "delete", "list_page")),
    (UploadRow, ("write",)),
)


class SignalCountdown:
    """Sends this process a signal right before one of its effects."""

    def __init__(self, effect: str, number: signal.Signals) -> None:
        kind, _, count = effect.rpartition("#")
        self._left = int(count)
        self._number = number
        for owner, names in _EFFECTS:
            for name in names:
                if kind in ("", name):
                    setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                signal.pthread_kill(threading.get_ident(), self._number)  # to this thread: it does not go on meanwhile
            return original(*args, **kwargs)

        return counted


async def upload(row: UploadRow, chunks: Sequence[int]) -> None:
    """Uploads what the row lacks, with one append for each chunk."""
    size = sum(chunks)
    data = pattern(size)
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    storage = await open_storage(settings, with_cache=False)
    backend = storage.primary_backend
    if isinstance(backend, S3Backend):  # so that it sends no requests that probe them
        for feature in (S3Feature.CONDITIONAL_PUT, S3Feature.CONDITIONAL_COMPLETE, S3Feature.KEY_ENCODING):
            backend.client.capabilities.mark_confirmed(feature)
    writes = backend.resumable_writes
    save, state = row.take_over(), row.state
    try:
        if state is None:
            state = await writes.begin(KEY, size=size, content_type=None)
            await save(state)
        for end in accumulate(chunks):
            state = row.state
            assert state is not None
            if state.offset >= end:
                continue
            async with writes.append(KEY, state, size=size, save=save, is_contested=True) as appender:
                for first in range(state.offset, end, MEBIBYTE):
                    await appender.write(data[first : min(first + MEBIBYTE, end)])
                await appender.checkpoint()
        state = row.state
        assert state is not None
        await writes.commit(KEY, state, size, is_contested=True)
    finally:
        await storage.aclose()


def run_writer(row: UploadRow, chunks: Sequence[int], effect: str, number: signal.Signals) -> int:
    SignalCountdown(effect, number)
    try:
        asyncio.run(upload(row, chunks))
    except TakenOver:
        return TAKEN_OVER
    except StorageError:
        return REFUSED
    return 0


def fork_writer(row: UploadRow, chunks: Sequence[int], effect: str, number: signal.Signals) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            status = run_writer(row, chunks, effect, number)
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def wait_for(child: int) -> None:
    _, status = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        print("stopped", flush=True)
    elif os.WIFSIGNALED(status):
        print("died", flush=True)
    else:
        print(f"ended {os.WEXITSTATUS(status)}", flush=True)


async def warm_up() -> None:
    """Load what a writer needs before the first fork."""
    keep_sdk_descriptions()
    await (await open_storage(Settings(_env_file=None))).aclose()  # pyright: ignore[reportCallIssue]


def main(orders: Path, row: UploadRow, chunks: Sequence[int]) -> None:
    s3_resumable.choose_part_size = lambda size: PART_BYTES
    local_resumable.LOCK_SECONDS = 0.1
    asyncio.run(warm_up())
    gc.disable()  # the writers share memory with this process, and live shortly
    gc.freeze()
    stopped = 0
    with orders.open() as lines:
        for line in lines:
            command, *effect = line.split()
            if command == "wake":
                os.kill(stopped, signal.SIGCONT)
                wait_for(stopped)
            elif command == "kill":
                wait_for(fork_writer(row, chunks, effect[0], signal.SIGKILL))
            else:
                stopped = fork_writer(row, chunks, effect[0], signal.SIGSTOP)
                wait_for(stopped)


if __name__ == "__main__":
    main(Path(sys.argv[1]), UploadRow(Path(sys.argv[2])), [int(chunk) for chunk in sys.argv[3:]])
