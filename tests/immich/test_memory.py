"""The memory of a plan and of an import does not depend on the number of assets. In the long campaigns there are a million."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.processes import read_peak_bytes
from tests.immich.conftest import MakeTakeover
from tests.immich.many_assets import add_many
from tests.immich.takeover import Takeover
from tests.real.notes import Note
from tests.real.waiting import eventually

ASSETS, SOAK_ASSETS = 3_000, 1_000_000
MOST_BYTES = 300 * 1024**2
SECONDS, SOAK_SECONDS = 120.0, 7000.0


def test_memory_is_bounded(make_takeover: MakeTakeover, note: Note, *, soak: bool) -> None:
    takeover = make_takeover("v3-s3", assets=5)
    count = SOAK_ASSETS if soak else ASSETS
    add_many(takeover.installation, count)
    for command in ("plan", "import"):
        began = time.monotonic()
        peak = measure_peak(takeover, command, SOAK_SECONDS if soak else SECONDS)
        assert peak < MOST_BYTES
        seconds = time.monotonic() - began
        note(f"immich {command} of {count} assets: peak of memory {peak // 1024**2} MiB, {seconds:.0f} seconds")


def measure_peak(takeover: Takeover, command: str, within: float) -> int:
    """Bytes, of an interpreter of its own."""
    roots = [f"--media-root={root}" for root in takeover.installation.media_roots]
    arguments = ("-m", "app.cli", "immich", command, "--database-url", takeover.installation.url, *roots)
    folder = takeover.service.stack.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output").open("wb") as output:
        environment = takeover.service.environment
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
    peak = 0

    def has_ended() -> bool:
        nonlocal peak
        peak = max(peak, read_peak_bytes(process.pid))
        return process.poll() is not None

    try:
        eventually(has_ended, f"immich {command} has ended", within=within)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    assert process.returncode == 0, (folder / "output").read_text()
    return peak
