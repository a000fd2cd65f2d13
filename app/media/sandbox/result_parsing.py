"""Translates a `SandboxResult` into the worker's result or a `MediaError`. Pure."""

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
"""Signals that the kernel sends at a resource limit. A retry would reach the same limit."""


def parse_result(sandbox_result: SandboxResult) -> dict[str, Any]:
    """The return value of a called function. Raises `MediaError`."""
    _check_exit(sandbox_result)
    try:
        answer = json.loads(sandbox_result.output)
        if "error" in answer:
            raise _BY_NAME.get(answer["error"], WorkerCrashed)(str(answer["reason"]))
        result = answer["result"]
    except (ValueError, KeyError, TypeError):
        raise WorkerCrashed("the process that worked on it died without a result") from None
    if not isinstance(result, dict):
        raise WorkerCrashed("the process that worked on it gave no result")
    return result


def parse_output(sandbox_result: SandboxResult, source: str = "") -> str:
    """The standard output of a program. Raises `MediaError`, with the last line of stderr as the reason, without the path `source`."""
    _check_exit(sandbox_result)
    # ffmpeg exits with status 0 even if it could not write its output.
    if "No space left on device" in sandbox_result.errors or "Disk quota exceeded" in sandbox_result.errors:
        raise MediaDiskFull("there is no room for the results")
    if sandbox_result.status == 0:
        return sandbox_result.output
    if "Cannot allocate memory" in sandbox_result.errors:
        raise LimitExceeded("it needs more memory than is permitted")
    last = [line for line in sandbox_result.errors.splitlines() if line.strip()][-1:]
    reason = redact_path(last[0], source) if last else f"exit status {sandbox_result.status}"
    raise DecodeFailed(f"it cannot be decoded: {reason}")


def redact_path(message: str, source: str) -> str:
    """Remove the path from an error message, because users see the message and must not see the server's paths."""
    return message.removeprefix(f"{source}: ").replace(source, "the file") if source else message


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
