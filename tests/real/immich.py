"""Immich's command line client from npm."""

from __future__ import annotations

from pathlib import Path

from tests.real.npm import npm_packages

CLIENT_VERSION = "3.2.2"
CLIENT_FOLDER = Path(__file__).with_name("immich_client")


def immich_packages() -> Path:
    """The `node_modules` folder of the client and its dependencies. Skips the test if it cannot be installed."""
    return npm_packages(CLIENT_FOLDER, f"immich-cli-{CLIENT_VERSION}")
