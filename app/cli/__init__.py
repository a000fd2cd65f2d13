"""The `mediavault` command."""

from __future__ import annotations

from app.cli.commands import cli, main

__all__ = ["cli", "main"]
