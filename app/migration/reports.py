"""`MoveReport`: the result of a command of the move. Does not format or print it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.catalog.catalog import Catalog
from app.catalog.moves.move_ledger import NO_FILTERS
from app.catalog.schema.move_records import MoveCounts, MoveFilters, MoveState, StorageMigration
from app.migration.problems import FileProblem

MAX_LISTED_PROBLEMS = 1000
"""Further problems are only counted, because a report is held in memory."""
_PAGE = 500


@dataclass(slots=True)
class ProblemList:
    """The first `MAX_LISTED_PROBLEMS` problems, and the number of all."""

    listed: list[FileProblem] = field(default_factory=list)
    count: int = 0

    def add(self, path: str, problem: str) -> None:
        self.count += 1
        if len(self.listed) < MAX_LISTED_PROBLEMS:
            self.listed.append(FileProblem(path, problem))


@dataclass(frozen=True, slots=True)
class MoveReport:
    """`files` and `bytes` were processed by this command, in `seconds`. `tallies`: counts by state of the whole migration. `problems` are
    those that remain. `notes` are sentences for the user."""

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
    """The problems in the ledger, each with the path that its file has now."""
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
