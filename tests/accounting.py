"""Checks at the end of a test run: the same tests ran on both storage engines and both databases, CI skipped none, and no log contains a
secret. Used by `tests/conftest.py`."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

ENGINE_NAMES = {"local": "local", "s3": "s3", "s3-aws": "s3", "s3-compatible": "s3"}
DATABASE_NAMES = {"sqlite": "sqlite", "postgresql": "postgresql"}
STACKS = {"local": "sqlite", "s3": "postgresql"}
"""The values of the parameter `stack`, which stands for an engine with its database."""
_NAMES = "|".join(sorted({*ENGINE_NAMES, *DATABASE_NAMES}, key=len, reverse=True))
_PARAMETER = re.compile(rf"(?<![^-\[])(?:{_NAMES})(?![^-\]])")
_CONFORMANCE = re.compile(r"::Test(Local|S3)::")
"""The test classes that run the conformance suite of a backend."""


@dataclass(slots=True)
class RunRecord:
    """The tests that ran, by engine or database; their names lack that parameter."""

    engines: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    databases: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def note(self, nodeid: str, *, by_stack: bool) -> None:
        """Record a test that ran; two profiles of one engine count once."""
        name, bracket, parameters = nodeid.partition("[")
        if found := _CONFORMANCE.search(name):
            test = _CONFORMANCE.sub("::*::", name) + bracket + parameters
            self.engines[found.group(1).lower()].add(test)
            return
        if not bracket:
            return
        for found in _PARAMETER.finditer(bracket + parameters):
            value = found.group()
            test = name + _PARAMETER.sub("*", bracket + parameters)
            if value in ENGINE_NAMES:
                self.engines[ENGINE_NAMES[value]].add(test)
                if by_stack:
                    self.databases[STACKS[ENGINE_NAMES[value]]].add(test)
            else:
                self.databases[DATABASE_NAMES[value]].add(test)

    def add(self, engines: Mapping[str, Sequence[str]], databases: Mapping[str, Sequence[str]]) -> None:
        """Add the record of another process of the run."""
        for counted, kept in ((engines, self.engines), (databases, self.databases)):
            for name, tests in counted.items():
                kept[name].update(tests)

    def lines(self) -> list[str]:
        return [
            _line("engine", self.engines, ("local", "s3")),
            _line("database", self.databases, ("sqlite", "postgresql")),
        ]

    def differences(self) -> list[str]:
        """Tests that ran on only one of the two."""
        pairs = ((self.engines, "local", "s3"), (self.databases, "sqlite", "postgresql"))
        return [
            f"ran on {left if test in ran[left] else right} only: {test}"
            for ran, left, right in pairs
            for test in sorted(ran[left] ^ ran[right])
        ]


def plain(ran: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """The record in types that pytest-xdist can send to another process."""
    return {name: sorted(tests) for name, tests in ran.items()}


def faults(config: pytest.Config, ledger: RunRecord, skipped: int, leaks: Sequence[str]) -> list[str]:
    """Why the run fails although no test failed. A run of a part of the tests may differ between engines."""
    found = [f"a log {line}" for line in leaks]
    if _whole(config):
        found += ledger.differences()
    if skipped and os.environ.get("CI"):
        found.append(f"{skipped} skipped: in CI every real part must be there")
    return found


def _whole(config: pytest.Config) -> bool:
    options = config.option
    return (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not options.keyword
        and not options.markexpr
        and not options.maxfail
        and not getattr(options, "lf", False)
    )


def _line(what: str, ran: dict[str, set[str]], names: tuple[str, str]) -> str:
    return f"tests per {what}: " + ", ".join(f"{name} {len(ran[name])}" for name in names)
