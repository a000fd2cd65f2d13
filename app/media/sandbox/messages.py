"""What is asked of a sandboxed process, within which limits, and how it ended: values that cross between processes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

_OPEN_FILES = Path("/proc/self/fd")
INHERITED_DESCRIPTOR = 4
"""The descriptor under which a worker has the open file that it inherits."""


def get_descriptor(source: Path) -> int | None:
    """The descriptor that `source` is a name of (`/proc/self/fd/…`); None for other paths."""
    return int(source.name) if source.parent == _OPEN_FILES else None


def path_in_worker(source: Path) -> Path:
    """What `source` is called in the worker that works on it."""
    return source if get_descriptor(source) is None else _OPEN_FILES / str(INHERITED_DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """`seconds` by the clock, `cpu_seconds` of processor time of each process, `memory` in bytes of address space of each,
    `file_size` in bytes of each file written, `output` in bytes of what it says as its result."""

    seconds: float
    cpu_seconds: int
    memory: int
    file_size: int
    output: int


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """Either a `call` of one of the functions in `calls.py`, with `arguments` that are JSON, or a `program` with its arguments,
    the first an absolute path. `folder` is its working folder and the only place where it may write (none for the empty text); beside the system's
    own files it may read what is in `readable`. All paths are absolute, and as they are `path_in_worker`; `inherited_descriptor` is this process's descriptor of
    the file that the worker inherits."""

    call: str
    arguments: dict[str, Any]
    program: tuple[str, ...]
    folder: str
    readable: tuple[str, ...]
    limits: ResourceLimits
    inherited_descriptor: int | None = None

    def __post_init__(self) -> None:
        for path in (*self.program[:1], *self.readable, *([self.folder] if self.folder else [])):
            if not path.startswith("/"):
                raise ValueError(f"no absolute path: {path}")

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        given = json.loads(packed)
        return cls(
            call=given["call"],
            arguments=given["arguments"],
            program=tuple(given["program"]),
            folder=given["folder"],
            readable=tuple(given["readable"]),
            limits=ResourceLimits(**given["limits"]),
            inherited_descriptor=given["inherited_descriptor"],
        )


class ExitKind(StrEnum):
    """`status` of `EXITED` is the exit status, of `KILLED` the signal."""

    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    OUTPUT_TOO_LARGE = "talked_too_much"


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """`output` is what it gave as its result, `errors` the end of what it said on stderr, both bounded."""

    exit_kind: ExitKind
    status: int
    output: str
    errors: str

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Raises `ValueError` for what is no such message."""
        try:
            given = json.loads(packed)
            return cls(ExitKind(given["exit_kind"]), int(given["status"]), str(given["output"]), str(given["errors"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no such message: {error}") from error
