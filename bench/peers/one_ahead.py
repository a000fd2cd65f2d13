"""mediavault with the read-ahead of archives reduced to one object."""

from __future__ import annotations

from app.archives import planner
from app.archives.read_ahead import ReadAheadBudget
from app.cli import main


def _one_ahead() -> ReadAheadBudget:
    return ReadAheadBudget(depth=1)


planner.ReadAheadBudget = _one_ahead  # pyright: ignore[reportAttributeAccessIssue]

if __name__ == "__main__":
    main()
