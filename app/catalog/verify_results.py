"""The result of the last `mediavault verify`, kept as a flag of the installation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.catalog.database.engine import Database
from app.catalog.installation import InstallationFlags

_FLAG = "verify-result"


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """`problems`: their number by kind, also 0. `unrepaired`: those that the command left. `with_checksums`: every byte was read."""

    ended_at: datetime
    with_checksums: bool
    problems: Mapping[str, int]
    unrepaired: int


class VerifyResultRepository:
    def __init__(self, database: Database) -> None:
        self._flags = InstallationFlags(database)

    async def save(self, result: VerifyResult) -> None:
        value = {
            "ended_at": result.ended_at.isoformat(),
            "with_checksums": result.with_checksums,
            "problems": dict(result.problems),
            "unrepaired": result.unrepaired,
        }
        await self._flags.set_flag(_FLAG, json.dumps(value))

    async def get_last(self) -> VerifyResult | None:
        """None if there was no comparison yet."""
        value = await self._flags.get_flag(_FLAG)
        if value is None:
            return None
        fields = json.loads(value)
        return VerifyResult(**fields | {"ended_at": datetime.fromisoformat(fields["ended_at"])})
