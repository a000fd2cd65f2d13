"""mediavault itself, with one object of an archive opened ahead in place of many."""

from __future__ import annotations

from app.archives import planning
from app.archives.ahead import AheadBudget
from app.cli import main


def _one_ahead() -> AheadBudget:
    return AheadBudget(depth=1)


planning.AheadBudget = _one_ahead  # pyright: ignore[reportAttributeAccessIssue]

if __name__ == "__main__":
    main()
