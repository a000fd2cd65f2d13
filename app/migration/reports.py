"""What a command of the move has to say at its end, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.catalog.catalog import Catalog
from app.catalog.move_records import Migration, MoveFilters, MoveState, MoveTally
from app.catalog.moves import EVERYTHING
from app.migration.problems import Named

MOST_NAMED = 1000
"""Problems beyond are counted, not named: a report is held in memory."""
_PAGE = 500


@dataclass(slots=True)
class Problems:
    """Those that are named, and how many there are."""

    named: list[Named] = field(default_factory=list)
    count: int = 0

    def add(self, path: str, problem: str) -> None:
        self.count += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(Named(path, problem))


@dataclass(frozen=True, slots=True)
class Report:
    """`files` and `bytes` were brought further by this command, in `seconds`. `tallies`: where all of the migration stands.
    `problems` are those that are left. `notes` are sentences for a person."""

    command: str
    migration: Migration | None
    files: int
    bytes: int
    seconds: float
    tallies: Sequence[MoveTally]
    problems: Problems
    notes: Sequence[str] = ()

    def files_in(self, *states: MoveState) -> int:
        return sum(tally.files for tally in self.tallies if tally.state in states)

    def bytes_in(self, *states: MoveState) -> int:
        return sum(tally.bytes for tally in self.tallies if tally.state in states)


async def ledger_problems(catalog: Catalog, migration: Migration, filters: MoveFilters = EVERYTHING) -> Problems:
    """Those that the ledger keeps, named by the path at which the file is to be looked for."""
    problems = Problems()
    after = None
    while True:
        page = await catalog.moves.moves(
            migration.id, tuple(MoveState), after=after, limit=_PAGE, filters=filters, problems=True
        )
        for move in page:
            switched = move.item.state is MoveState.SWITCHED
            path = move.item.target_path if switched else move.item.source_path
            problems.add(path, move.item.problem or "")
        if len(page) < _PAGE or problems.count >= MOST_NAMED:
            break
        after = page[-1].item.file_id
    counted = sum(tally.problems for tally in await catalog.moves.tallies(migration.id, filters))
    problems.count = max(problems.count, counted)
    return problems
