"""Mutation testing of the pure modules: each small change of their code makes a test fail, or `survivors.toml` says why
no test needs to.

mutmut makes the changes and chooses the tests; `[tool.mutmut]` in pyproject.toml names modules and tests. Part of `make
soak`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.real.notes import Note

ROOT = Path(__file__).parent.parent.parent
JUDGED = Path(__file__).with_name("survivors.toml")
SECONDS = 5400
KILLED = {1, 3}
"""pytest's exit codes for a change that was noticed: tests failed, or could not be run."""
TIMED_OUT = {-24, 24, 36, 152, 255}
"""Exit codes for a change that causes an endless loop, which counts as noticed."""


def judged() -> dict[str, str]:
    """The reason for each accepted survivor, by change."""
    entries = tomllib.loads(JUDGED.read_text(encoding="utf-8"))["survivor"]
    reasons = {f"{entry['function']}: {entry['change']}": entry["reason"] for entry in entries}
    assert len(reasons) == len(entries), "one entry for each change"
    return reasons


def test_every_judged_survivor_has_a_reason() -> None:
    assert all(reason.strip() for reason in judged().values())


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.soak
def test_every_change_of_the_pure_modules_is_noticed_or_judged(tmp_path: Path, note: Note) -> None:
    if find_spec("mutmut") is None:
        pytest.skip("no mutmut here: it has no build for this machine")
    for name in ("app", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    ran = mutmut(tmp_path, "run", "--max-children", str(os.cpu_count() or 1))
    codes = exit_codes(tmp_path)
    survivors = {change_of(tmp_path, name) for name, code in codes.items() if code not in KILLED | TIMED_OUT}

    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert codes
    counts = Counter("killed" if code in KILLED | TIMED_OUT else "survived" for code in codes.values())
    known = judged()
    new, gone = survivors - known.keys(), known.keys() - survivors
    score = 100 * counts["killed"] / len(codes)
    note(f"mutation testing: {len(codes)} changes, {score:.1f} % noticed, {counts['survived']} survive")
    assert not new, "no test notices:\n" + "\n".join(sorted(new))
    assert not gone, "these are noticed, or not made any more: take them out of survivors.toml:\n" + "\n".join(
        sorted(gone)
    )


def mutmut(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MEDIAVAULT"))}
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def exit_codes(folder: Path) -> dict[str, int | None]:
    """The exit code of the tests for each change, by name."""
    codes: dict[str, int | None] = {}
    for path in sorted((folder / "mutants" / "app").rglob("*.meta")):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def change_of(folder: Path, name: str) -> str:
    """A stable name of the change: its function, and its lines before and after. mutmut's numbers shift with every
    edit."""
    shown = mutmut(folder, "show", name).stdout.splitlines()
    lines = [line for line in shown if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    before = " ".join(line[1:].strip() for line in lines if line[0] == "-")
    after = " ".join(line[1:].strip() for line in lines if line[0] == "+")
    return f"{name.rpartition('__mutmut_')[0]}: {before} -> {after}"
