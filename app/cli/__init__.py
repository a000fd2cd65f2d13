"""The `mediavault` command."""

from __future__ import annotations

from app.cli.loading import loading

with loading():
    from app.cli.commands import cli, main

__all__ = ["cli", "main"]
