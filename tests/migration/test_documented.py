"""Runs the move that docs/moving.md shows, and compares the shape of the output."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.config import StorageEngine
from tests.migration.library import Library
from tests.real.service import ROOT, Service
from tests.real.stacks import Stacks

PROMPT = "$ mediavault "
SIZES = (0, 240_000, 3000, 1_000_000)
SHAPES = [
    (re.compile(r"\S*/upload/.*?\.jpg"), "PATH"),
    (re.compile(r"\d+:\d\d:\d\d"), "TIME"),
    (re.compile(r"\d[\d.]* (?:bytes|[KMG]iB)\b"), "SIZE"),
    (re.compile(r"\d+"), "N"),
    (re.compile(r" +"), " "),
]
"""Patterns of values that differ between libraries, and their placeholders."""


def documented() -> dict[str, list[list[str]]]:
    """The documented commands in their order, each with its documented lines."""
    shown: dict[str, list[list[str]]] = {}
    text = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for command in block.removeprefix(PROMPT).split(f"\n{PROMPT}"):
            line, _, printed = command.partition("\n")
            if printed:
                shown.setdefault(line, []).append(printed.splitlines())
    return shown


def shape(lines: list[str]) -> list[str]:
    """The lines with placeholders. The number of progress lines depends on time, so consecutive lines of one shape count as one."""
    shapes: list[str] = []
    for line in lines:
        for pattern, stands_for in SHAPES:
            line = pattern.sub(stands_for, line)
        if not _of_progress(line) and line.strip() not in shapes[-1:]:
            shapes.append(line.strip())
    return shapes


def _of_progress(line: str) -> bool:
    """Whether the line is a progress line between the first and the last one, which always appear."""
    return line.endswith(" left")


async def printed(library: Library, engine: StorageEngine, line: str) -> list[str]:
    """The output of the command, both streams interleaved."""
    service = Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": engine.value})
    ended = await asyncio.to_thread(CliRunner().invoke, cli, line.split(), env=service.environment)
    assert ended.exit_code in (0, 1), ended.output
    return ended.output.splitlines()


async def test_the_whole_move_prints_what_is_shown(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = documented()
    created = await Library.create(stacks.create("s3", tmp_path, database="sqlite"), StorageEngine.S3)
    async with aclosing(created) as library:
        damaged = library.local_file((await library.fill(SIZES))[1].path)
        whole = damaged.read_bytes()

        async def compare(line: str, engine: StorageEngine = StorageEngine.S3) -> None:
            assert shape(await printed(library, engine, line)) == shape(shown[line].pop(0)), line

        await compare("migrate plan --to s3", StorageEngine.LOCAL)
        damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        await compare("migrate run --to s3 --bandwidth 20M")
        damaged.write_bytes(whole)
        await compare("migrate run --to s3")
        await compare("migrate switch --to s3")
        await compare("migrate rollback --to s3")
        await library.sweep()
        await printed(library, StorageEngine.S3, "migrate run --to s3")
        await printed(library, StorageEngine.S3, "migrate switch --to s3")
        monkeypatch.setattr("app.migration.steps.cleanup_step.asyncio", SimpleNamespace(sleep=no_time_passes))
        await compare("migrate cleanup --to s3")

        assert not any(shown.values()), "shown, but not made here"
        await library.check_exact(at=library.target_base)


async def no_time_passes(seconds: float) -> None:
    assert 0 < seconds <= 60
