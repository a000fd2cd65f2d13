"""Python clients of Immich's API by others, in a virtual environment of their own: their dependencies are not ours."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
LOCK = FOLDER / "requirements.lock"
INSTALL_SECONDS = 240


def foreign_clients_python() -> Path:
    """The interpreter with the clients, installed once for each version of the lock file, in the user's cache. Skips the test if they
    cannot be installed.

    The interpreter is that of the tests; pymmich asks for Python 3.13, and runs on 3.11.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mediavault-tests"
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    home = cache / f"foreign-clients-{sys.version_info.major}.{sys.version_info.minor}-{lock}"
    if not home.exists():
        _install(home)
    return home / "bin" / "python"


def _install(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    building = home.with_name(f"{home.name}.{secrets.token_hex(4)}")
    options = ("--quiet", "--disable-pip-version-check", "--ignore-requires-python", "--only-binary=:all:")
    try:
        for command in (
            [sys.executable, "-m", "venv", building],
            [building / "bin/python", "-m", "pip", "install", *options, "--require-hashes", "-r", LOCK],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if done.returncode != 0:
                pytest.skip(f"foreign clients can not be installed here: {done.stderr.strip().splitlines()[-1:]}")
        if not home.exists():
            building.rename(home)  # its programs name the former folder; the interpreter does not
    finally:
        shutil.rmtree(building, ignore_errors=True)
