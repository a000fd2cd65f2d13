"""Links of the documents lead to existing files, their JSON parses, and their commands and options exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "bench" / "README.md",
    ROOT / "CONTRIBUTING.md",
]


def matches(pattern: str) -> list[tuple[Path, str]]:
    """Pairs of document and matched group, for each match of the pattern in each document."""
    return [
        (document, found)
        for document in DOCUMENTS
        for found in re.findall(pattern, document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize(("document", "target"), matches(r"\]\((?!https?://)([^)#\s]+)[^)\s]*\)"))
def test_a_link_leads_to_a_file(document: Path, target: str) -> None:
    assert (document.parent / target).exists()


@pytest.mark.parametrize("text", [text for _, text in matches(r"^```json\n(.*?)^```$")])
def test_json_parses(text: str) -> None:
    assert json.loads(text)


@pytest.mark.parametrize(
    "line",
    [line for _, line in matches(r"^\$ [^\n]*?\b(mediavault (?:user|key|db|migrate|serve|verify|backup)[^\n]*)$")],
)
def test_a_command_is_one_that_mediavault_has(line: str) -> None:
    answer = CliRunner().invoke(cli, [*shlex.split(line)[1:], "--help"])
    assert answer.exit_code == 0, answer.output
