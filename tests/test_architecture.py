"""`docs/architecture.md` agrees with the code: its floors are those of import-linter's contract, and the files and functions exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"`(app/[\w/]+\.py): (\w+(?:\.\w+)?)`", TEXT)
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:app|tests|docs)/[\w/.]+)", TEXT + CONTRIBUTING)))


def read_layers() -> list[tuple[int, str]]:
    """(floor, package) of each package, from the highest floor to the lowest."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [(floor, name.strip(" ()")) for floor, line in enumerate(layers, start=1) for name in line.split("|")]


def test_the_floors_are_those_that_are_checked() -> None:
    floors = [(int(floor), name) for floor, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", TEXT, re.MULTILINE)]
    assert sorted(floors) == sorted(read_layers())
    assert [floor for floor, _ in floors] == sorted(floor for floor, _ in floors), "from the top down"


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name"), STEPS, ids=[f"{path}:{name}" for path, name in STEPS])
def test_a_step_of_a_journey_exists(path: str, name: str) -> None:
    scope: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [node for node in ast.iter_child_nodes(scope) if getattr(node, "name", None) == part]
        assert found, f"{path} has no {name}"
        scope = found[0]


def test_there_are_journeys() -> None:
    assert len(STEPS) > 20
