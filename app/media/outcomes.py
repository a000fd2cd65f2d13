"""What the end of a sandboxed process means: its result, or the `MediaError` that says why there is none. Pure."""

from __future__ import annotations

import json
import signal
from typing import Any

from app.media.errors import Crashed, DecodeFailed, DiskFull, MediaError, MissingTool, TimedOut, TooLarge, Unreadable
from app.media.work import Ended, How

_BY_NAME: dict[str, type[MediaError]] = {
    kind.__name__: kind for kind in (Crashed, DecodeFailed, DiskFull, MissingTool, TimedOut, TooLarge, Unreadable)
}

_BY_SIGNAL: dict[int, str] = {
    signal.SIGXCPU: "it needs more processor time than is permitted",
    signal.SIGXFSZ: "the results are larger than is permitted",
}
"""How the kernel ends what reaches a limit that trying again would not move."""


def result_of(ended: Ended) -> dict[str, Any]:
    """What a called function returned. Raises `MediaError`."""
    _check(ended)
    try:
        said = json.loads(ended.output)
        if "error" in said:
            raise _BY_NAME.get(said["error"], Crashed)(str(said["reason"]))
        result = said["result"]
    except (ValueError, KeyError, TypeError):
        raise Crashed("the process that worked on it died without a result") from None
    if not isinstance(result, dict):
        raise Crashed("the process that worked on it gave no result")
    return result


def output_of(ended: Ended, source: str = "") -> str:
    """What a program wrote to its standard output. Raises `MediaError`, with the program's last words about `source` as the reason."""
    _check(ended)
    # ffmpeg says so and ends in peace, whatever it could not write.
    if "No space left on device" in ended.errors or "Disk quota exceeded" in ended.errors:
        raise DiskFull("there is no room for the results")
    if ended.status == 0:
        return ended.output
    if "Cannot allocate memory" in ended.errors:
        raise TooLarge("it needs more memory than is permitted")
    last = [line for line in ended.errors.splitlines() if line.strip()][-1:]
    said = without_path(last[0], source) if last else f"exit status {ended.status}"
    raise DecodeFailed(f"it cannot be decoded: {said}")


def without_path(said: str, source: str) -> str:
    """Where a file lies is nobody's business who is told what is wrong with it."""
    return said.removeprefix(f"{source}: ").replace(source, "the file") if source else said


def _check(ended: Ended) -> None:
    if ended.how is How.TIMED_OUT:
        raise TimedOut("it took longer than is permitted")
    if ended.how is How.TALKED_TOO_MUCH:
        raise TooLarge("it has more to tell than is permitted")
    if ended.how is How.KILLED:
        if ended.status in _BY_SIGNAL:
            raise TooLarge(_BY_SIGNAL[ended.status])
        raise Crashed(f"the process that worked on it was ended by {_name(ended.status)}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
