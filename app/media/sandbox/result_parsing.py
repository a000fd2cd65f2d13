"""What the end of a sandboxed process means: its result, or the `MediaError` that says why there is none. Pure."""

from __future__ import annotations

import json
import signal
from typing import Any

from app.media.errors import (
    DecodeFailed,
    LimitExceeded,
    MediaDiskFull,
    MediaError,
    MissingTool,
    ProcessingTimedOut,
    SourceUnreadable,
    WorkerCrashed,
)
from app.media.sandbox.messages import ExitKind, SandboxResult

_BY_NAME: dict[str, type[MediaError]] = {
    kind.__name__: kind
    for kind in (
        WorkerCrashed,
        DecodeFailed,
        MediaDiskFull,
        MissingTool,
        ProcessingTimedOut,
        LimitExceeded,
        SourceUnreadable,
    )
}

_BY_SIGNAL: dict[int, str] = {
    signal.SIGXCPU: "it needs more processor time than is permitted",
    signal.SIGXFSZ: "the results are larger than is permitted",
}
"""How the kernel ends what reaches a limit that trying again would not move."""


def parse_result(sandbox_result: SandboxResult) -> dict[str, Any]:
    """What a called function returned. Raises `MediaError`."""
    _check_exit(sandbox_result)
    try:
        said = json.loads(sandbox_result.output)
        if "error" in said:
            raise _BY_NAME.get(said["error"], WorkerCrashed)(str(said["reason"]))
        result = said["result"]
    except (ValueError, KeyError, TypeError):
        raise WorkerCrashed("the process that worked on it died without a result") from None
    if not isinstance(result, dict):
        raise WorkerCrashed("the process that worked on it gave no result")
    return result


def parse_output(sandbox_result: SandboxResult, source: str = "") -> str:
    """What a program wrote to its standard output. Raises `MediaError`, with the program's last words about `source` as the reason."""
    _check_exit(sandbox_result)
    # ffmpeg says so and ends in peace, whatever it could not write.
    if "No space left on device" in sandbox_result.errors or "Disk quota exceeded" in sandbox_result.errors:
        raise MediaDiskFull("there is no room for the results")
    if sandbox_result.status == 0:
        return sandbox_result.output
    if "Cannot allocate memory" in sandbox_result.errors:
        raise LimitExceeded("it needs more memory than is permitted")
    last = [line for line in sandbox_result.errors.splitlines() if line.strip()][-1:]
    said = redact_path(last[0], source) if last else f"exit status {sandbox_result.status}"
    raise DecodeFailed(f"it cannot be decoded: {said}")


def redact_path(said: str, source: str) -> str:
    """Where a file lies is nobody's business who is told what is wrong with it."""
    return said.removeprefix(f"{source}: ").replace(source, "the file") if source else said


def _check_exit(sandbox_result: SandboxResult) -> None:
    if sandbox_result.exit_kind is ExitKind.TIMED_OUT:
        raise ProcessingTimedOut("it took longer than is permitted")
    if sandbox_result.exit_kind is ExitKind.OUTPUT_TOO_LARGE:
        raise LimitExceeded("it has more to tell than is permitted")
    if sandbox_result.exit_kind is ExitKind.KILLED:
        if sandbox_result.status in _BY_SIGNAL:
            raise LimitExceeded(_BY_SIGNAL[sandbox_result.status])
        raise WorkerCrashed(f"the process that worked on it was ended by {_signal_name(sandbox_result.status)}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
