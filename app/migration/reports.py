"""What a command of the move has to say at its end, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.catalog.catalog import Catalog
from app.catalog.moves.move_ledger import NO_FILTERS
from app.catalog.schema.move_records import MoveCounts, MoveFilters, MoveState, StorageMigration
from app.migration.problems import FileProblem

MAX_LISTED_PROBLEMS = 1000
"""Problems beyond are counted, not named: a report is held in memory."""
_PAGE = 500


@dataclass(slots=True)
class ProblemList:
    """Those that are named, and how many there are."""

    listed: list[FileProblem] = field(default_factory=list)
    count: int = 0

    def add(self, path: str, problem: str) -> None:
        self.count += 1
        if len(self.listed) < MAX_LISTED_PROBLEMS:
            self.listed.append(FileProblem(path, problem))


@dataclass(frozen=True, slots=True)
class MoveReport:
    """`files` and `bytes` were brought further by this command, in `seconds`. `tallies`: where all of the migration stands.
    `problems` are those that are left. `notes` are sentences for a person."""

    command: str
    migration: StorageMigration | None
    files: int
    bytes: int
    seconds: float
    tallies: Sequence[MoveCounts]
    problems: ProblemList
    notes: Sequence[str] = ()

    def count_files(self, *states: MoveState) -> int:
        return sum(tally.files for tally in self.tallies if tally.state in states)

    def count_bytes(self, *states: MoveState) -> int:
        return sum(tally.bytes for tally in self.tallies if tally.state in states)


async def load_ledger_problems(
    catalog: Catalog, migration: StorageMigration, filters: MoveFilters = NO_FILTERS
) -> ProblemList:
    """Those that the ledger keeps, named by the path at which the file is to be looked for."""
    problems = ProblemList()
    after = None
    while True:
        page = await catalog.moves.get_moves(
            migration.id, tuple(MoveState), after=after, limit=_PAGE, filters=filters, only_with_problem=True
        )
        for move in page:
            switched = move.item.state is MoveState.SWITCHED
            path = move.item.target_path if switched else move.item.source_path
            problems.add(path, move.item.problem or "")
        if len(page) < _PAGE or problems.count >= MAX_LISTED_PROBLEMS:
            break
        after = page[-1].item.file_id
    counted = sum(tally.problems for tally in await catalog.moves.count_by_state(migration.id, filters))
    problems.count = max(problems.count, counted)
    return problems
