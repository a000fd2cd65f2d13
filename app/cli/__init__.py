"""The `mediavault` command line: one module for each group of commands. The work is done by the packages that the commands call."""

from __future__ import annotations

from app.cli.fast_imports import import_without_gc

with import_without_gc():
    from app.cli.commands import cli, main

__all__ = ["cli", "main"]
