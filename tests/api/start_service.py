"""The type of the fixture `start_service`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tests.real.seaweedfs import SeaweedFS
from tests.real.service import COMMAND, Service
from tests.real.stacks import Database, Engine


class StartService(Protocol):
    """Starts a service on a fresh stack; `begin=False` only prepares it. `server` replaces the shared S3 server, `database`
    the engine's usual one; the other options are those of `Service`."""

    def __call__(
        self,
        engine: Engine,
        *,
        server: SeaweedFS | None = None,
        database: Database | None = None,
        begin: bool = True,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str] = COMMAND,
        wrap: Sequence[str] = (),
        spawned: bool = True,
    ) -> Service: ...
