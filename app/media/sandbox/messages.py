"""Messages between service, supervisor and worker: a request, its resource limits, and how its worker ended. Serialized as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

_OPEN_FILES = Path("/proc/self/fd")
INHERITED_DESCRIPTOR = 4
"""Number of the inherited descriptor in the worker."""


def get_descriptor(source: Path) -> int | None:
    """The descriptor that `source` names (`/proc/self/fd/…`); None for other paths."""
    return int(source.name) if source.parent == _OPEN_FILES else None


def path_in_worker(source: Path) -> Path:
    """The path of `source` in the worker: unchanged, or that of the inherited descriptor."""
    return source if get_descriptor(source) is None else _OPEN_FILES / str(INHERITED_DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """`seconds` of wall-clock time; `cpu_seconds` of processor time of each process; `memory`, bytes of memory of each process;
    `file_size`, bytes of each written file; `output`, bytes of the result; `address_space`, bytes of each process, the same as `memory`
    for None."""

    seconds: float
    cpu_seconds: int
    memory: int
    file_size: int
    output: int
    address_space: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """Runs either a function or a program in a worker.

    `call` names one of `WORKER_FUNCTIONS` (`worker_functions.py`), with `arguments` that are JSON. Otherwise `program` is a command line
    whose first item is an absolute path. `folder` is the working folder; empty for none. The worker may write to it and to `devices` only. It
    may read system files and the paths in `readable`. All paths are absolute and those of `path_in_worker`. `inherited_descriptor` is the
    service's descriptor of the file that the worker inherits.
    """

    call: str
    arguments: dict[str, Any]
    program: tuple[str, ...]
    folder: str
    readable: tuple[str, ...]
    limits: ResourceLimits
    inherited_descriptor: int | None = None
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in (*self.program[:1], *self.readable, *self.devices, *([self.folder] if self.folder else [])):
            if not path.startswith("/"):
                raise ValueError(f"no absolute path: {path}")

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        fields = json.loads(packed)
        return cls(
            call=fields["call"],
            arguments=fields["arguments"],
            program=tuple(fields["program"]),
            folder=fields["folder"],
            readable=tuple(fields["readable"]),
            limits=ResourceLimits(**fields["limits"]),
            inherited_descriptor=fields["inherited_descriptor"],
            devices=tuple(fields.get("devices", ())),  # a service that was started before an update names none
        )


class ExitKind(StrEnum):
    """How a worker ended. `SandboxResult.status` is the exit status for `EXITED`, the signal number for `KILLED`."""

    EXITED = "exited"
    KILLED = "killed"
    TIMED_OUT = "timed_out"
    OUTPUT_TOO_LARGE = "output_too_large"


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """`output` is the worker's result (a program's stdout), `errors` the end of its stderr. Both are bounded."""

    exit_kind: ExitKind
    status: int
    output: str
    errors: str

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Raises `ValueError` for a malformed message."""
        try:
            fields = json.loads(packed)
            return cls(
                ExitKind(fields["exit_kind"]), int(fields["status"]), str(fields["output"]), str(fields["errors"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no such message: {error}") from error
