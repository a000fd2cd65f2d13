"""Reads an asset with the functions of Immich's SDK that its own page uses for files, in Node."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.real.immich import CLIENT_FOLDER, immich_packages
from tests.real.npm import node

RUN_SECONDS = 60


def read_with_sdk(address: str, key: str, photo: str, video: str | None = None) -> dict[str, Any]:
    """What `read_files.mjs` prints: the answers as JSON, and the SHA-1 of each file in hexadecimal. `address`: without a path."""
    script = CLIENT_FOLDER / "read_files.mjs"
    command = [node(), script, immich_packages(), address, key, photo, *([video] if video else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
